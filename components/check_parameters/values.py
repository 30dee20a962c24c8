"""The values that parameters may have, and what is wrong with those of a run."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import Any
from urllib.parse import urlsplit

from components.assign_folds.folds import MIN_FOLDS
from components.ct.cases import OnInvalid
from components.ct.image_size import check_image_size
from components.evaluate.limits import GateLimits
from components.runtime.errors import InputError
from components.runtime.numbers import is_number
from components.runtime.seed import MAX_SEED
from components.storage.gcs_uri import GcsUri, is_gcs_uri
from components.train.recipe import MAX_BATCH_SIZE, Preset, Recipe, select_recipe

_GATE = tuple(field.name for field in fields(GateLimits))
# The value of a Kubernetes label (apimachinery, pkg/util/validation/validation.go, labelValueFmt). TF Serving's REST
# paths take any name without `/` and `:` (model_servers/http_rest_api_util.cc, kPredictionApiRegex).
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_SERVER = re.compile(r"(dns:///|ipv4:|ipv6:)?([^\s/:@]+|\[[^\s/\]]+\]):(\d{1,5})|unix:\S+")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
Rule = Callable[[Any], object]  # raises `InputError` for an invalid value


class Findings:
    """What is wrong with the parameters, by parameter."""

    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = {}

    @contextmanager
    def collect(self, name: str) -> Iterator[None]:
        """Collect the findings of an `InputError`; each line starts with the parameter's name."""
        try:
            yield
        except InputError as error:
            self.lines[name] = [line if line.startswith(name) else f"{name}: {line}" for line in map(str, error.args)]

    def raise_error(self) -> None:
        """Raise one `InputError` with all findings, if there are any."""
        if self.lines:
            raise InputError(*(line for lines in self.lines.values() for line in lines))


def check_values(parameters: Mapping[str, Any]) -> None:
    """Check the types and values of a pipeline's parameters, without a look at the files and servers that they name.

    Raises:
        InputError: one or more are invalid; a line for each finding.
    """
    find_invalid(parameters).raise_error()


def find_invalid(parameters: Mapping[str, Any]) -> Findings:
    """Find the parameters with an invalid type or value, or that contradict others."""
    findings = Findings()
    for name, value in parameters.items():
        if rule := RULES.get(name):
            with findings.collect(name):
                rule(value)
    with findings.collect(""):
        GateLimits(**{name: value for name, value in parameters.items() if name in _GATE and name != "hard_cases"})
    if "preset" in parameters:
        _check_recipe(parameters, findings)
    if "server" in parameters:
        with findings.collect(""):
            _check_endpoint(*(parameters.get(name) or "" for name in ("server", "model", "version_label")))
    return findings


def require_local_path(value: str) -> None:
    """Raise `InputError` for a URI, or a `~` that no shell has expanded."""
    if _SCHEME.match(value):
        raise InputError(f"{value}: a URI; expected a path that the step sees, such as a mounted volume's")
    if "\0" in value:
        raise InputError(f"{value!r}: has a null character; expected a path")
    if value.startswith("~"):
        raise InputError(f"{value}: starts with ~, which only a shell expands; give the whole path")


def require_location(value: str) -> None:
    """Raise `InputError` unless a value is a path or `gs://bucket/prefix`."""
    if is_gcs_uri(value):
        GcsUri.parse(value)
    elif _SCHEME.match(value) or not value:
        raise InputError(f"{value!r}: expected a folder, or gs://bucket/prefix in lower case")
    else:
        require_local_path(value)


def _check_source(value: str) -> None:
    if not value.startswith(("phantom:", "zenodo:")):
        require_location(value)


def _check_name(value: str) -> None:
    if not _NAME.fullmatch(value):
        raise InputError(
            f"{value!r}; expected 1 to 63 letters, digits, '.', '_' and '-', a letter or digit at both ends, such as "
            "lung-infection"
        )


def _check_label(value: str) -> None:
    from serving.versions.labels import check_label  # importing the client of Cloud Storage takes half a second

    check_label(value)


def _check_server(value: str) -> None:
    match = _SERVER.fullmatch(value)
    if not match or not 0 < int(match[3] or 1) <= 65_535:
        raise InputError(f"{value!r}; expected host:port of a gRPC endpoint, such as localhost:8500")


def _check_registry_address(value: str) -> None:
    try:
        address = urlsplit(value)
        valid = address.scheme in ("http", "https") and address.hostname and address.port != 0
    except ValueError:  # a port that is not a number
        valid = False
    if not valid or re.search(r"\s", value):
        raise InputError(f"{value!r}; expected an address such as http://model-registry-service.kubeflow.svc:8080")


def _check_recipe(parameters: Mapping[str, Any], findings: Findings) -> None:
    given = {name: parameters[name] for name in ("epochs", "batch_size") if name not in findings.lines}
    changes = {} if "changes" in findings.lines else parameters.get("changes")
    preset = Preset.DEFAULT if "preset" in findings.lines else parameters["preset"]
    recipe = Recipe()
    with findings.collect("changes"):
        recipe = select_recipe(preset, changes, **{name: value or None for name, value in given.items()})
    if "image_size" not in findings.lines:
        with findings.collect("image_size"):
            recipe.check_image_size(parameters["image_size"])


def _check_endpoint(server: str, model: str, version_label: str) -> None:
    if bool(server) == bool(model):
        found = f"both are set ({server}, {model})" if server else "neither is set"
        raise InputError(f"server and model: {found}; set SERVER=host:port, or MODEL=<model base or version folder>")
    if version_label and model:
        raise InputError(f"version_label: {version_label}, but model is set; labels belong to a server, remove one")


def _whole(low: int, high: int = 2**31 - 1) -> Rule:
    def check(value: Any) -> None:
        # Kubeflow passes 1.5 for an integer (backend/src/v2/driver/resolve.go); the command line passes text.
        if not is_number(value, low, high) or value % 1:
            raise InputError(f"{value!r}; expected a whole number from {low} to {high}")

    return check


def _number(low: float, high: float) -> Rule:
    def check(value: object) -> None:
        if not is_number(value, low, high):
            raise InputError(f"{value!r}; expected a number from {low:g} to {high:g}")

    return check


def _of_type(kind: type, expected: str) -> Rule:
    def check(value: object) -> None:
        if not isinstance(value, kind):
            raise InputError(f"{value!r}; expected {expected}")

    return check


def _optional(rule: Rule) -> Rule:
    return lambda value: rule(value) if value else None


def _required(value: str) -> None:
    if not value.strip():
        raise InputError("empty; expected a name")


_BOOLEAN = _of_type(bool, "true or false")
# `GateLimits` has the rules of the gate's parameters, and any text is a license.
RULES: Mapping[str, Rule] = {
    "model_base": require_location,
    "model_name": _check_name,
    "source": _check_source,
    "masks": _required,
    "label": _whole(0, 255),
    "on_invalid": OnInvalid,
    "pseudonym_key_file": require_local_path,
    "cache": require_local_path,
    "push_to": _optional(GcsUri.parse),
    "reference_profile": _optional(require_location),
    "image_size": check_image_size,
    "min_lesion_pixels": _whole(0),
    "preset": Preset,
    "epochs": _whole(0),
    "batch_size": _whole(0, MAX_BATCH_SIZE),
    "changes": _of_type(dict, 'JSON such as {"learning_rate": 0.001}'),
    "require_gpu": _BOOLEAN,
    "checkpoint_dir": require_local_path,
    "hard_cases": _of_type(list, "a list of case ids"),
    "view_3d": _BOOLEAN,
    "signing_key_file": require_local_path,
    "model_registry": _optional(_check_registry_address),
    "seed": _whole(0, MAX_SEED),
    "folds": _whole(MIN_FOLDS, 1000),
    "folds_file": require_local_path,
    "server": _optional(_check_server),
    "model": _optional(require_location),
    "version_label": _optional(_check_label),
    "parts": _whole(1, 1000),
    "min_lesion_ml": _number(0, 1e6),
}
