"""All models of a server, kept in step with their folders and with a `models.config`.

A reload follows the order of TF Serving (model_servers/server_core.cc, ReloadConfig): labels first, then versions.
Each change is published in one assignment, and requests never wait for it: a request keeps the version it started
with, even while that version is unloaded.
"""

import logging
import threading
from collections.abc import Iterable
from pathlib import Path

from components.runtime.errors import InputError
from serving.server.errors import RequestError, failed_precondition, in_one_line, invalid_argument, not_found
from serving.server.model import Model, ModelRequest, Snapshot, Status
from serving.versions.model_config import ModelConfig, read_model_config
from serving.versions.saved_model import SavedModel

_log = logging.getLogger(__name__)


class ModelRegistry:
    """All models of a server. One thread at a time changes them; requests never wait.

    Args:
        public_key: serve only versions signed by the owner of this key; None serves all.
    """

    def __init__(self, public_key: Path | None = None) -> None:
        self._public_key = public_key
        self._models: dict[str, Model] = {}
        self._change_lock = threading.Lock()

    def reload(self, configs: Iterable[ModelConfig]) -> None:
        """Serve exactly these models: move their labels, then load and unload their versions.

        Raises:
            RequestError: A label that is in use points at a version that is not loaded, or a new model has no loadable
                version; nothing changes.
        """
        with self._change_lock:
            models = {config.name: (self._models.get(config.name), config) for config in configs}
            for model, config in models.values():
                if model is not None:
                    _require_movable_labels(model.snapshot, config)
            updates = {}
            for name, (model, config) in models.items():
                if model is None or model.config.base != config.base:
                    model = Model(config, self._public_key)
                    _require_versions(model)
                updates[name] = model
            for name, model in updates.items():
                model.configure(models[name][1])
            self._models = updates
        self.refresh()  # the next check reports what fails

    def refresh(self) -> str:
        """Publish new versions of all models; return why folders could not be read."""
        problems = []
        with self._change_lock:
            for model in self._models.values():
                try:
                    model.refresh()
                except Exception as error:  # such as a folder that vanishes while it is read: try again next time
                    problems.append(f"{model.config.name}: not refreshed: {in_one_line(error)}")
        return "; ".join(problems)

    def resolve(self, request: ModelRequest) -> tuple[int, SavedModel]:
        """Return the version that a request selects.

        Raises:
            RequestError: INVALID_ARGUMENT for a missing name or an unknown label, NOT_FOUND otherwise.
        """
        if not request.name:
            raise invalid_argument("ModelSpec has no name specified.")
        return self._model(request.name).resolve(request)

    def statuses(self, request: ModelRequest) -> dict[int, Status]:
        """Return the status of the selected version, or of all versions of the model.

        Raises:
            RequestError: NOT_FOUND for an unknown model or version.
        """
        # TF Serving ignores the label here (model_servers/get_model_status_impl.cc).
        version, statuses = request.version, dict(self._model(request.name).statuses)
        if not statuses and version is None:
            raise not_found(f"Could not find any versions of model {request.name}")
        if version is None or (statuses and version == 0 and 0 not in statuses):
            return statuses
        if version not in statuses:
            raise not_found(f"Could not find version {version} of model {request.name}")
        return {version: statuses[version]}

    def available_versions(self) -> dict[str, list[int]]:
        """Return the versions that answer requests, by model."""
        return {name: sorted(model.snapshot.versions) for name, model in self._models.items()}

    def _model(self, name: str) -> Model:
        """Return a model by name; an unknown one has no versions and no labels."""
        return self._models.get(name) or Model(ModelConfig(name, ""))


class Watcher:
    """A thread that applies changes of the version folders and of a `models.config`.

    Args:
        models: models to keep up to date.
        config_file: `models.config` to reload at each check, or None.
        poll_s: interval between checks.
    """

    def __init__(self, models: ModelRegistry, config_file: Path | None, poll_s: float) -> None:
        self._models = models
        self._config_file = config_file
        self._poll_s = poll_s
        self._last_warning = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread after the version it may be loading."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._poll_s):
            warning = "; ".join(filter(None, (self._reload_config(), self._models.refresh())))
            if warning and warning != self._last_warning:
                _log.warning("%s", warning)
            self._last_warning = warning

    def _reload_config(self) -> str:
        """Apply the `models.config`, as TF Serving does at every check; return why it is refused."""
        if self._config_file is None:
            return ""
        try:
            self._models.reload(read_model_config(self._config_file))
        except Exception as error:
            known = isinstance(error, InputError | RequestError)
            reason = " ".join(str(error).split()) if known else in_one_line(error)
            return f"not reloaded, keeping the previous configuration: {reason}"
        return ""


def _require_movable_labels(current: Snapshot, config: ModelConfig) -> None:
    """Refuse to move a label that is in use to a version that is not loaded.

    As TF Serving with --allow_version_labels_for_unavailable_models (UpdateModelVersionLabelMap); a new label may point
    at any version.
    """
    for label, version in config.labels.items():
        if current.labels.get(label, version) != version and version not in current.versions:
            raise failed_precondition(
                f"Request to assign label to version {version} of model {config.name}, "
                "which is not currently available for inference"
            )


def _require_versions(model: Model) -> None:
    """Load the versions of a new model; raise `RequestError` if there are none."""
    try:
        model.refresh()
    except InputError as error:
        raise failed_precondition(f"no version of {model.config.name} can be served: {error}") from error
    if not model.snapshot.versions:
        errors = [status.error for status in model.statuses.values() if status.error]
        reason = "; ".join(errors) or f"no version folders in {model.config.base}"
        raise failed_precondition(f"no version of {model.config.name} can be served: {reason}")
