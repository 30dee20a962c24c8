"""The versions of one model: which are on disk, which are loaded, and why one is not."""

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from components.ct.errors import InputError
from serving.refusal import invalid, not_found
from serving.saved_model import SavedModel
from serving.version_folders import version_folders


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


class Model:
    """A model by its name, and the version of it that answers: the newest one that can be loaded."""

    def __init__(self, name: str, base: Path) -> None:
        self.name = name
        self.base = base
        self.statuses: dict[int, Status] = {}
        self._loaded: dict[int, SavedModel] = {}

    def load_newest(self) -> int:
        """Load the highest version; where it is damaged, the one below it, and remember why.

        Raises:
            InputError: No version can be loaded.
        """
        for version, folder in reversed(version_folders(self.base).items()):
            try:
                self._loaded[version] = SavedModel(folder)
            except Exception as error:  # whatever TensorFlow raises on damaged files
                reason = " ".join(str(error).split())
                self.statuses[version] = Status(State.END, f"version {version} cannot be loaded: {reason}")
                continue
            self.statuses[version] = Status(State.AVAILABLE)
            return version
        reasons = "; ".join(status.error for status in self.statuses.values()) or "no version folders"
        raise InputError(f"{self.base}: no version of {self.name} can be served: {reasons}")

    def choose(self, version: int | None) -> tuple[int, SavedModel]:
        """Pick a loaded version by number, or the newest.

        Raises:
            Refusal: It is not loaded.
        """
        if version is None:
            version = max(self._loaded)
        elif version not in self._loaded:
            raise not_found(f"Servable not found for request: Specific({self.name}, {version})")
        return version, self._loaded[version]


class Models:
    """All models of a server, chosen by a request's ModelSpec as TF Serving does."""

    def __init__(self, models: list[Model]) -> None:
        self._models = {model.name: model for model in models}

    def choose(self, spec: object) -> tuple[int, SavedModel]:
        """Pick the version that a ModelSpec asks for.

        Raises:
            Refusal: INVALID_ARGUMENT without a name or with an unknown label, NOT_FOUND for anything else.
        """
        name, version = _name_and_version(spec)
        if name not in self._models:
            asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise not_found(f"Servable not found for request: {asked}")
        return self._models[name].choose(version)

    def statuses(self, spec: object) -> dict[int, Status]:
        """Where the versions of a model stand: all of them, or the one that a ModelSpec names.

        Raises:
            Refusal: NOT_FOUND for a model or version that was never seen.
        """
        name, version = _name_and_version(spec)
        known = self._models[name].statuses if name in self._models else {}
        if not known:
            raise not_found(f"Could not find any versions of model {name}")
        if version is None:
            return dict(known)
        if version not in known:
            raise not_found(f"Could not find version {version} of model {name}")
        return {version: known[version]}


def _name_and_version(spec: object) -> tuple[str, int | None]:
    """Read a ModelSpec message; the version is None where the request leaves it open."""
    name, label = spec.name, spec.version_label  # type: ignore[attr-defined]
    if not name:
        raise invalid("ModelSpec has no name specified.")
    if label:
        raise invalid(f"Unrecognized servable version label: {label}")
    return name, spec.version.value if spec.HasField("version") else None  # type: ignore[attr-defined]
