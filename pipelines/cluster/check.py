"""Check that a cluster runs what was deployed: small runs, their reports, the servers. Then delete all of it."""

import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from components.report.page import MAX_PAGE_BYTES
from components.runtime.errors import InputError
from components.storage.gcs import delete_prefix
from components.storage.gcs_uri import is_gcs_uri
from pipelines.cluster.check_pipeline import FAILING_STEP, compile_failing_pipeline, data_image
from pipelines.cluster.check_serving import ServedModel, Servers
from pipelines.cluster.compile_options import ClusterOptions
from pipelines.cluster.connection import Cluster, check_api
from pipelines.cluster.progress import RunEnd, StepState, follow, read_artifact
from pipelines.cluster.runs import (
    RunSettings,
    UploadedVersion,
    delete_experiment,
    delete_run,
    delete_version,
    pipeline_name,
    run_link,
    submit,
    upload,
)

_MODEL = "lung-infection-check"
_PHANTOM = {"source": "phantom:4", "image_size": 32, "epochs": 2}
_FOLDS = 3
_REPORTS = ("Validate cohort", "Evaluate on native grids")
_RETRY_POLICY = (
    "no second attempt: the workflow controller's retryPolicy is OnError, the default of Kubeflow 2.17.0; to retry "
    "failed steps, delete templateDefaults.retryStrategy in the ConfigMap workflow-controller-configmap"
)


@dataclass(frozen=True)
class CheckSettings:
    """Settings of a check; the options of `lung-ct check-cluster` describe them."""

    cluster: Cluster
    build: Path
    model_base: str
    options: ClusterOptions = field(default_factory=ClusterOptions)
    servers: Servers | None = None  # None for a cluster without servers
    pipeline_root: str | None = None
    service_account: str | None = None
    timeout_s: float = 3600.0
    poll_s: float = 5.0


class Note(InputError):
    """Something that an operator should know, though the pipelines run."""


class _Session:
    """What one check has created."""

    def __init__(self, settings: CheckSettings, stack: ExitStack) -> None:
        self.settings, self.cluster = settings, settings.cluster
        self.scratch = Path(stack.enter_context(TemporaryDirectory()))
        check_id = secrets.token_hex(3)
        self.experiment = f"{_MODEL}-{check_id}"
        self.base = f"{settings.model_base.rstrip('/')}-check-{check_id}"
        # Its own seed: an earlier check's outputs are in Kubeflow's cache, but their files are deleted.
        self.seed = int(check_id, 16) % 100_000
        self.runs: dict[str, str] = {}
        self.artifacts: list[str] = []  # folders in the pipeline root
        self.uploads: dict[str, UploadedVersion] = {}
        self.model: ServedModel | None = None
        if settings.servers:
            self.model = stack.enter_context(ServedModel(settings.servers, _MODEL, self.base, self.scratch))

    def start(self, name: str) -> str:
        """Start a run, unless it has been started; return its id."""
        if name not in self.runs:
            pipeline, parameters = self._request(name)
            package = self._package(pipeline)
            if pipeline not in self.uploads:
                self.uploads[pipeline] = upload(self.cluster, package)
            settings = self.settings
            run = RunSettings(
                f"{self.experiment} {name}",
                self.experiment,
                parameters,
                settings.pipeline_root,
                settings.service_account,
            )
            self.runs[name] = submit(self.cluster, self.uploads[pipeline], run)
            self.artifacts.append(f"{pipeline_name(package)}/{self.runs[name]}")  # v2/metadata/client.go, GetPipeline
        return self.runs[name]

    def _request(self, name: str) -> tuple[str, Mapping[str, Any]]:
        """Pipeline and parameters of a run."""
        phantom = _PHANTOM | {"seed": self.seed}
        training = phantom | {"model_base": self.base, "model_name": _MODEL, "max_regression": 1.0}
        accepted = training | {"min_dice": 0.0, "max_false_positive_ml": 1e6}
        return {
            "training": ("training", accepted),
            "refusal": ("training", training | {"min_dice": 1.0}),
            "second version": ("training", accepted | {"epochs": 1}),
            "cross-validation": ("cross-validation", phantom | {"folds": _FOLDS}),
            "retry": ("retry", {}),
        }[name]

    def _package(self, pipeline: str) -> Path:
        package = self.settings.build / f"{pipeline}.yaml"
        if pipeline == "retry":
            image = data_image(self.settings.build / "training.yaml")
            package = self.scratch / "retry.yaml"
            compile_failing_pipeline(package, image, self.settings.options, self.experiment)
        return package

    def wait(self, name: str) -> RunEnd:
        """Wait until a run has ended, and start it before if necessary."""
        timeout_s, poll_s = self.settings.timeout_s, self.settings.poll_s
        events = follow(self.cluster, self.start(name), timeout_s=timeout_s, poll_s=poll_s)
        return next(event for event in events if isinstance(event, RunEnd))

    def succeed(self, name: str) -> tuple[StepState, ...]:
        """Wait for a run and return its steps; raise `InputError` with the failed ones unless it succeeds."""
        end = self.wait(name)
        if end.state != "SUCCEEDED":
            failed = ", ".join(dict.fromkeys(step.name for step in end.steps if step.state == "FAILED"))
            link = run_link(self.cluster, end.run_id)
            raise InputError(f"{end.state}{f' in {failed}' if failed else ''}: {end.reason or link}")
        return end.steps


def _find_api(session: _Session) -> str:
    check_api(session.cluster)
    return session.cluster.connect().address


def _train(session: _Session) -> str:
    session.start("training")
    for other in ("retry", "cross-validation"):  # side by side; their own checks report what keeps them from starting
        with suppress(InputError):
            session.start(other)
    return _require(session.succeed("training"), {"Export model version": True})


def _refuse(session: _Session) -> str:
    session.start("refusal")
    if session.model:
        with suppress(InputError):
            session.start("second version")
    steps = session.succeed("refusal")
    seen = _require(steps, {"Report refusal": True, "Export model version": False})
    if not next(step.cached for step in steps if step.name == "Ingest cohort"):
        raise Note(f"{seen}; Ingest cohort ran again: the cluster's cache is disabled")
    return f"{seen}; Ingest cohort from the cache"


def _require(steps: tuple[StepState, ...], expected: Mapping[str, bool]) -> str:
    """Compare which steps ran with what is expected; return what ran."""
    ran = {step.name for step in steps if step.state == "SUCCEEDED"}
    seen = "; ".join(f"{name} {'ran' if name in ran else 'did not run'}" for name in expected)
    if any((name in ran) != expectation for name, expectation in expected.items()):
        raise InputError(seen)
    return seen


def _retry(session: _Session) -> str:
    end = session.wait("retry")
    attempts = next((step.attempts for step in end.steps if step.name == FAILING_STEP), 0)
    if attempts == 1:
        if end.state == "SUCCEEDED":
            raise Note("the step did not fail: this backend has no KFP_RETRY_INDEX, it is older than 2.17")
        raise Note(_RETRY_POLICY)
    session.succeed("retry")
    return f"succeeded at attempt {attempts}"


def _cross_validate(session: _Session) -> str:
    steps = session.succeed("cross-validation")
    folds = sum(step.name == "Evaluate on native grids" and step.state == "SUCCEEDED" for step in steps)
    if folds != _FOLDS:
        raise InputError(f"{folds} folds evaluated; expected {_FOLDS}")
    return f"{folds} folds evaluated"


def _read_reports(session: _Session) -> str:
    sizes = []
    for step in _REPORTS:
        page = read_artifact(session.cluster, session.runs["training"], step, "report")
        if b"<html" not in page[:1000].lower() or len(page) > MAX_PAGE_BYTES:
            raise InputError(f"{step}: {len(page):,} bytes, starting with {page[:20]!r}; expected HTML of at most 5 MB")
        sizes.append(f"{step} {len(page) / 1000:,.0f} kB")
    return ", ".join(sizes)


def _serve(session: _Session) -> str:
    assert session.model is not None
    return session.model.add(1)


def _move_labels(session: _Session) -> str:
    assert session.model is not None
    _require(session.succeed("second version"), {"Export model version": True})
    return session.model.move_labels(1, 2)


@dataclass(frozen=True)
class _Check:
    name: str
    expected: str
    run: Callable[[_Session], str]  # returns what was seen
    needs: str = ""  # the check without which this one makes no sense
    needs_servers: bool = False


_API, _TRAINING, _SERVING = "Kubeflow API", "training", "serving"
_CHECKS = (
    _Check(_API, "reachable, logged in", _find_api),
    _Check(_TRAINING, "run succeeds, version 1 exported", _train, _API),
    _Check("cache and gate", "ingest cached, refusal reported, no export", _refuse, _TRAINING),
    _Check("retry", "a step that fails once is retried", _retry, _API),
    _Check("cross-validation", f"run succeeds, {_FOLDS} folds evaluated", _cross_validate, _API),
    _Check("reports", "HTML, at most 5 MB each", _read_reports, _TRAINING),
    _Check(_SERVING, "version 1 answers on every server", _serve, _TRAINING, needs_servers=True),
    _Check("labels", "promoted, rolled back on every server", _move_labels, _SERVING, needs_servers=True),
)
_Outcome = Literal["ok", "note", "FAILED", "not checked"]


def check_cluster(settings: CheckSettings) -> bool:
    """Run all checks and print a line for each as it ends; return whether none failed.

    What the checks create is deleted at the end, also after a failure or Ctrl-C.
    """
    outcomes: dict[str, _Outcome] = {}
    print(f"{'check':<17} {'expected':<43} {'seconds':>7}  seen", flush=True)
    with ExitStack() as stack:
        session = _Session(settings, stack)
        try:
            for check in _CHECKS:
                missing = check.needs if outcomes.get(check.needs, "ok") in ("FAILED", "not checked") else ""
                if check.needs_servers and settings.servers is None:
                    missing = "servers (--skip serving)"
                outcomes[check.name] = _run(check, session, f"needs {missing}" if missing else "")
        finally:
            cleanup = _Check("cleanup", "nothing is left", _clean_up)
            outcomes[cleanup.name] = _run(cleanup, session)
    return "FAILED" not in outcomes.values()


def _run(check: _Check, session: _Session, skipped: str = "") -> _Outcome:
    """Run a check and print its line."""
    start = time.monotonic()
    outcome: _Outcome = "not checked" if skipped else "ok"
    try:
        seen = skipped or check.run(session)
    except InputError as error:
        outcome, seen = "note" if isinstance(error, Note) else "FAILED", " ".join(str(error).split())
    print(f"{check.name:<17} {check.expected:<43} {time.monotonic() - start:>7.0f}  {outcome}: {seen}", flush=True)
    return outcome


def _clean_up(session: _Session) -> str:
    """Delete what the check has created; raise `InputError` with what could not be deleted."""
    cluster, errors, left = session.cluster, list[str](), list[str]()

    def delete(function: Callable[..., object], *arguments: object) -> None:
        try:
            function(*arguments)
        except InputError as error:
            errors.append(str(error))

    if session.model:
        delete(session.model.remove)
    for run_id in session.runs.values():
        delete(delete_run, cluster, run_id)
    if session.uploads:
        delete(delete_experiment, cluster, session.experiment)
    for uploaded in session.uploads.values():
        if uploaded.is_new:
            delete(delete_version, cluster, uploaded)
    root = (session.settings.pipeline_root or "<default pipeline root>").rstrip("/")
    folders = [session.base] * ("training" in session.runs) + [f"{root}/{folder}" for folder in session.artifacts]
    for folder in folders:
        if is_gcs_uri(folder):
            delete(delete_prefix, folder)
        elif Path(folder).is_dir():
            shutil.rmtree(folder)
        else:
            left.append(folder)
    remains = f"left, delete by hand: {', '.join(left)}" if left else ""
    if errors:
        raise InputError("; ".join([*errors, remains]).removesuffix("; "))
    if left:
        raise Note(remains)
    return "nothing is left"
