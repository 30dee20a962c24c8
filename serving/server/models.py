"""The models of a server and their versions: which answer, which are loaded, and why one is not.

Changes are made aside and shown in one assignment, so that requests never wait for them: a request that has
chosen a version keeps it to its end, even while that version is taken out.
"""

import gc
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from serving.server.errors import invalid, not_found, not_ready
from serving.server.loading import load_version
from serving.versions.layout import version_folders
from serving.versions.model_config import ModelConfig
from serving.versions.saved_model import SavedModel


class State(IntEnum):
    """ModelVersionStatus.State of TF Serving's get_model_status.proto."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class Status:
    """Where a version stands, and the reason where it could not be loaded."""

    state: State
    error: str = ""


@dataclass(frozen=True)
class ModelRequest:
    """What a request calls a model by: its name, and at most one of version and label."""

    name: str
    version: int | None = None
    label: str = ""

    def __str__(self) -> str:
        """In the words of TF Serving's refusals."""
        return f"Latest({self.name})" if self.version is None else f"Specific({self.name}, {self.version})"


@dataclass(frozen=True)
class Snapshot:
    """What requests see of a model at one moment."""

    versions: Mapping[int, SavedModel] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)


class Model:
    """One model: its versions in memory, and the ones that answer.

    Args:
        config: what is to be served of it.
        tell: takes a line for the operator.
    """

    def __init__(self, config: ModelConfig, tell: Callable[[str], None]) -> None:
        self.config = config
        self.shown = Snapshot()
        self.statuses: dict[int, Status] = {}
        self._tell = tell
        self._loaded: dict[int, SavedModel] = {}
        self._failed: dict[int, object] = {}  # a damaged version's files, to see when they change

    def prepare(self, config: ModelConfig) -> list[int]:
        """Load what `config` wants and is not yet in memory; the versions that are ready to be shown."""
        folders = version_folders(Path(config.base))
        # A version that a label points at stays in memory even if its folder is gone.
        labeled = {version for version in config.labels.values() if version in self._loaded}
        candidates, enough = config.wanted(folders.keys() | labeled)
        ready: list[int] = []
        for version in candidates:
            if len(ready) == enough:
                break
            if version in self._loaded or self._load(version, folders.get(version)):
                ready.append(version)
        return ready

    def show(self, config: ModelConfig, ready: list[int]) -> None:
        """Let these versions answer from now on, and free the others."""
        changed = self.shown.versions and set(ready) != set(self.shown.versions)
        self.config = config
        self.shown = Snapshot({version: self._loaded[version] for version in ready}, config.labels)
        for version in ready:
            self.statuses[version] = Status(State.AVAILABLE)
        self.drop_hidden()
        if changed:
            self._tell(f"{config.name}: now serving {', '.join(f'version {n}' for n in sorted(ready))}")

    def refresh(self) -> None:
        """Follow the folder: show new versions, and keep what is shown where nothing else can be loaded."""
        ready = self.prepare(self.config)
        if ready and set(ready) != set(self.shown.versions):
            self.show(self.config, ready)

    def drop_hidden(self) -> None:
        """Free the versions that were loaded and are not shown."""
        hidden = set(self._loaded) - set(self.shown.versions)
        for version in hidden:
            del self._loaded[version]
            self.statuses[version] = Status(State.END)
        if hidden:
            gc.collect()  # TensorFlow's functions refer to each other in circles

    def choose(self, asked: ModelRequest) -> tuple[int, SavedModel]:
        """Pick a version that is shown, by number or label, or the newest.

        Raises:
            RequestError: There is none such.
        """
        shown = self.shown
        # 0 is the newest to OpenVINO's clients, who always send a number; where there is a version 0, it is meant.
        version = asked.version if asked.version or 0 in shown.versions else None
        if asked.label:
            if asked.label not in shown.labels:
                raise invalid(f"Unrecognized servable version label: {asked.label}")
            version = shown.labels[asked.label]
        elif version is None and shown.versions:
            version = max(shown.versions)
        if version is None or version not in shown.versions:
            raise not_found(f"Servable not found for request: {asked}")
        return version, shown.versions[version]

    def why_not(self) -> str:
        """Why nothing of it can be served, in words."""
        reasons = [status.error for status in self.statuses.values() if status.error]
        return "; ".join(reasons) or f"no version folders in {self.config.base}"

    def _load(self, version: int, folder: Path | None) -> bool:
        if folder is None:
            self.statuses[version] = Status(State.END, f"version {version} is not in {self.config.base}")
            return False
        files = _state_of_files(folder)
        if self._failed.get(version) == files:
            return False
        self.statuses[version] = Status(State.LOADING)
        try:
            self._loaded[version] = load_version(folder)
        except Exception as error:  # whatever TensorFlow raises on damaged files
            reason = " ".join(str(error).split())
            self._failed[version] = files
            self.statuses[version] = Status(State.END, f"version {version} cannot be loaded: {reason}")
            self._tell(f"{self.config.name}: not served: {self.statuses[version].error}")
            return False
        self._failed.pop(version, None)
        return True


class Models:
    """All models of a server. Changes are made by one thread at a time; requests never wait for them."""

    def __init__(self, tell: Callable[[str], None] = lambda line: None) -> None:
        self._tell = tell
        self._models: dict[str, Model] = {}
        self._changing = threading.Lock()

    def reload(self, configs: Iterable[ModelConfig]) -> None:
        """Serve these models and no others; every new version is loaded before anything is shown.

        Raises:
            RequestError: A model has no version that can be loaded, or a label none to point at: nothing is changed.
        """
        with self._changing:
            prepared = []
            try:
                for config in configs:
                    model = self._model_for(config)
                    prepared.append((model, config, model.prepare(config)))
                    _require_ready(*prepared[-1])
            except Exception:
                for model in self._models.values():
                    model.drop_hidden()
                raise
            for model, config, ready in prepared:
                model.show(config, ready)
            self._models = {config.name: model for model, config, _ in prepared}

    def refresh(self) -> None:
        """Look at the folders of all models once."""
        with self._changing:
            for model in self._models.values():
                model.refresh()

    def choose(self, asked: ModelRequest) -> tuple[int, SavedModel]:
        """Pick the version that a request asks for.

        Raises:
            RequestError: INVALID_ARGUMENT without a name or with an unknown label, NOT_FOUND for anything else.
        """
        return self._named(asked, f"Servable not found for request: {asked}").choose(asked)

    def statuses(self, asked: ModelRequest) -> dict[int, Status]:
        """Where the versions of a model stand: all of them, or the one that is asked for.

        Raises:
            RequestError: NOT_FOUND for a model or version that was never seen.
        """
        nowhere = f"Could not find any versions of model {asked.name}"
        model = self._named(asked, nowhere)
        version = model.choose(asked)[0] if asked.label else asked.version
        known = dict(model.statuses)
        if version is None or (version == 0 and 0 not in known):
            return known
        if version not in known:
            raise not_found(f"Could not find version {version} of model {asked.name}")
        return {version: known[version]}

    def shown(self) -> dict[str, list[int]]:
        """The versions that answer now, by model."""
        return {name: sorted(model.shown.versions) for name, model in self._models.items()}

    def _named(self, asked: ModelRequest, unknown: str) -> Model:
        if not asked.name:
            raise invalid("ModelSpec has no name specified.")
        model = self._models.get(asked.name)
        if model is None:
            raise not_found(unknown)
        return model

    def _model_for(self, config: ModelConfig) -> Model:
        known = self._models.get(config.name)
        return known if known and known.config.base == config.base else Model(config, self._tell)


def _require_ready(model: Model, config: ModelConfig, ready: list[int]) -> None:
    if not ready:
        raise not_ready(f"no version of {config.name} can be served: {model.why_not()}")
    for label, version in config.labels.items():
        if version not in ready:
            raise not_ready(
                f"Request to assign label {label} to version {version} of model {config.name}, "
                "which is not currently available for inference"
            )


def _state_of_files(folder: Path) -> object:
    """Names, sizes and times of a version's files: another value says that they were changed."""
    found = [(path, path.stat()) for path in sorted(folder.rglob("*"))]
    return [(path, stat.st_size, stat.st_mtime_ns) for path, stat in found]
