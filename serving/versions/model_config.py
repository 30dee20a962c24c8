"""TF Serving's `models.config`: the models a server offers, their versions and their version labels.

The format is TF Serving's own (tensorflow_serving/config/model_server_config.proto), so one file serves the embedded
server and the stock one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import TENSORFLOW, ModelServerConfig

from components.runtime.errors import InputError
from components.runtime.files import atomic_write
from components.storage.gcs_uri import is_gcs_uri


@dataclass(frozen=True)
class ModelConfig:
    """One model of a server."""

    name: str  # its name in requests
    base: str  # the folder of its version folders; a stock server also accepts `gs://`
    specific: tuple[int, ...] = ()  # the versions to serve; if empty, `newest` applies
    newest: int | None = 1  # how many of the newest versions to serve; None for all
    labels: Mapping[str, int] = field(default_factory=dict)  # version by label

    def candidates(self, available: Iterable[int]) -> tuple[list[int], int]:
        """Return the versions to try to load, in order of preference, and how many of them to serve.

        As in TF Serving (file_system_storage_path_source.cc, PollFileSystemForServable), labels do not count.
        """
        versions = sorted(available, reverse=True)
        if self.specific:
            versions = [version for version in versions if version in self.specific]
        return versions, len(versions) if self.specific or self.newest is None else self.newest


def from_message(message: ModelServerConfig) -> list[ModelConfig]:
    """Convert TF Serving's message, from a `models.config` or a `HandleReloadConfigRequest`.

    Raises:
        ValueError: It does not list models, or one of them cannot be served.
    """
    if message.WhichOneof("config") != "model_config_list":
        raise ValueError("only a model_config_list is supported")
    configs = []
    for entry in message.model_config_list.config:
        if not (entry.name and entry.base_path):
            raise ValueError("every model needs a name and a base_path")
        if not (is_gcs_uri(entry.base_path) or Path(entry.base_path).is_absolute()):
            raise ValueError(
                f"Expected model {entry.name} to have an absolute path or URI; got base_path()={entry.base_path}"
            )
        # model_servers/server_core.cc: GetPlatform, CreateStoragePathRoutes.
        platform = "tensorflow" if entry.model_type == TENSORFLOW else entry.model_platform
        if platform != "tensorflow":
            raise ValueError(f"Model {entry.name} requests unsupported platform {platform}; expected tensorflow")
        policy = entry.model_version_policy
        kind = policy.WhichOneof("policy_choice")
        specific = tuple(sorted(set(policy.specific.versions))) if kind == "specific" else ()
        if kind == "specific" and not specific:
            raise ValueError(f"model {entry.name}: a specific version policy names no version")
        newest = None if kind == "all" else max(1, policy.latest.num_versions)
        configs.append(ModelConfig(entry.name, entry.base_path, specific, newest, dict(entry.version_labels)))
    names = [config.name for config in configs]
    if not names or len(set(names)) < len(names):
        raise ValueError("expected at least one model, and unique names")
    return configs


def to_message(configs: Iterable[ModelConfig]) -> ModelServerConfig:
    """Convert to TF Serving's message."""
    message = ModelServerConfig()
    for config in configs:
        entry = message.model_config_list.config.add(
            name=config.name, base_path=config.base, model_platform="tensorflow"
        )
        if config.specific:
            entry.model_version_policy.specific.versions.extend(config.specific)
        elif config.newest is None:
            entry.model_version_policy.all.SetInParent()
        elif config.newest > 1:
            entry.model_version_policy.latest.num_versions = config.newest
        entry.version_labels.update(config.labels)
    return message


def read_model_config(path: Path) -> list[ModelConfig]:
    """Read a `models.config` in protobuf text format; raise `InputError` if it is missing or malformed."""
    try:
        return parse_model_config(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # also of text that is not UTF-8
        raise InputError(f"{path}: not a models.config of TensorFlow Serving: {error}") from error


def parse_model_config(text: str) -> list[ModelConfig]:
    """Parse protobuf text format; raise `ValueError` if it is malformed."""
    try:
        return from_message(text_format.Parse(text, ModelServerConfig()))
    except text_format.ParseError as error:
        raise ValueError(str(error)) from error


def format_model_config(configs: Iterable[ModelConfig]) -> str:
    """Format as protobuf text."""
    return str(text_format.MessageToString(to_message(configs)))


def write_model_config(path: Path, configs: Iterable[ModelConfig]) -> None:
    """Write a `models.config` atomically, as a server may read it at any moment."""
    with atomic_write(path) as temporary:
        temporary.write_text(format_model_config(configs))
