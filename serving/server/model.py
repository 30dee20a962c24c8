"""One model: its versions in memory, their states, and the ones that answer requests."""

import gc
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from components.runtime.errors import InputError
from serving.server.errors import invalid_argument, load_error_code, not_found
from serving.server.tensors import check_names, read_tensors
from serving.versions.layout import WARMUP_FILE, complete_local_versions
from serving.versions.model_config import ModelConfig
from serving.versions.saved_model import DEFAULT_SIGNATURE, SavedModel, load_verified

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Status:
    """State of a version, a `ModelVersionStatus.State`; code and text of the error if it could not be loaded."""

    state: int
    error: str = ""
    error_code: int = 0


@dataclass(frozen=True)
class ModelRequest:
    """The model that a request names, with at most one of version and label."""

    name: str
    version: int | None = None
    label: str = ""

    def __str__(self) -> str:
        """Format as in TF Serving's error messages."""
        return f"Latest({self.name})" if self.version is None else f"Specific({self.name}, {self.version})"


@dataclass(frozen=True)
class Snapshot:
    """The versions and labels that answer requests at one moment; replaced as a whole."""

    versions: Mapping[int, SavedModel] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)


class Model:
    """The versions of one model; those without a signature by the owner of `public_key`, if given, are not served."""

    def __init__(self, config: ModelConfig, public_key: Path | None = None) -> None:
        self.config = config
        self._public_key = public_key
        self.snapshot = Snapshot(labels=config.labels)
        self.statuses: dict[int, Status] = {}
        self._failed: dict[int, list[object]] = {}  # fingerprint of the files of versions that could not be loaded

    def configure(self, config: ModelConfig) -> None:
        """Follow another configuration: its labels from now on, its versions from the next `refresh`."""
        if config != self.config:
            _log.info("%s: follows the new configuration", config.name)
        self.config = config
        self.snapshot = Snapshot(self.snapshot.versions, config.labels)

    def refresh(self) -> None:
        """Load the versions that the configuration selects, then unload the others; keep these if none can be loaded.

        Each version answers requests as soon as it is loaded.
        """
        try:
            folders = complete_local_versions(Path(self.config.base))
        except OSError as error:
            raise InputError(f"{self.config.base[:200]}: cannot be read: {error.strerror}") from error
        candidates, count = self.config.candidates(folders)
        selected: dict[int, SavedModel] = {}
        for version in candidates:
            if len(selected) == count:
                break
            model = self.snapshot.versions.get(version) or self._load_version(version, folders[version])
            if model is not None:
                selected[version] = model
                self._publish({**self.snapshot.versions, version: model})
        if selected and set(selected) != set(self.snapshot.versions):
            self._publish(selected)
            gc.collect()  # TensorFlow's functions form reference cycles

    def _publish(self, versions: Mapping[int, SavedModel]) -> None:
        """Answer requests with these versions from now on."""
        previous = self.snapshot.versions
        if set(versions) == set(previous):
            return
        self.snapshot = Snapshot(versions, self.snapshot.labels)
        self.statuses |= dict.fromkeys(versions, Status(ModelVersionStatus.AVAILABLE))
        self.statuses |= dict.fromkeys(set(previous) - set(versions), Status(ModelVersionStatus.END))
        if previous:
            _log.info("%s: now serving %s", self.config.name, ", ".join(f"version {n}" for n in sorted(versions)))

    def resolve(self, request: ModelRequest) -> tuple[int, SavedModel]:
        """Return the published version that a request selects by number or label, by default the newest.

        Raises:
            RequestError: It does not exist.
        """
        snapshot = self.snapshot
        # OpenVINO's clients always send a version; 0 means the newest unless a version 0 exists.
        version = request.version if request.version or 0 in snapshot.versions else None
        if request.label:
            if request.label not in snapshot.labels:
                raise invalid_argument(f"Unrecognized servable version label: {request.label}")
            version = snapshot.labels[request.label]
        elif version is None and snapshot.versions:
            version = max(snapshot.versions)
        if version is None or version not in snapshot.versions:
            raise not_found(f"Servable not found for request: {ModelRequest(request.name, version)}")
        return version, snapshot.versions[version]

    def _load_version(self, version: int, folder: Path) -> SavedModel | None:
        fingerprint = _fingerprint(folder)
        if self._failed.get(version) == fingerprint:
            return None
        self.statuses[version] = Status(ModelVersionStatus.LOADING)
        try:
            model = load_version(folder, self._public_key)
        except Exception as error:  # on damaged files, TensorFlow raises exceptions of many types
            self._failed[version] = fingerprint
            reason = f"version {version} cannot be loaded: {' '.join(str(error).split())}"
            self.statuses[version] = Status(ModelVersionStatus.END, reason, load_error_code(error))
            _log.warning("%s: not served: %s", self.config.name, reason)
            return None
        self._failed.pop(version, None)
        return model


def load_version(folder: Path, public_key: Path | None = None) -> SavedModel:
    """Verify a version's files and signature, load it, and run its recorded Predict requests to warm it up.

    Raises:
        Exception: The files differ from the manifest, TensorFlow cannot load them, or a warm-up request fails.
    """
    model = load_verified(folder, public_key)
    path = folder / WARMUP_FILE
    records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator() if path.is_file() else ()
    for record in records:
        log = PredictionLog.FromString(record)
        if log.WhichOneof("log_type") != "predict_log":
            continue
        request = log.predict_log.request
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        signature = model.signature(name)
        check_names(signature, request.inputs, ())
        model.run(name, read_tensors(signature, request.inputs))
    return model


def _fingerprint(folder: Path) -> list[object]:
    """Return names, sizes and modification times of a folder's files."""
    stats = [(path, path.lstat()) for path in sorted(folder.rglob("*"))]
    return [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
