"""TF Serving's `models.config`: which models a server offers, which of their versions, and under which labels.

The messages are TF Serving's own (tensorflow_serving/config/model_server_config.proto), so that one file does
for the embedded server and the stock one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from components.runtime.errors import InputError
from components.runtime.files import atomic_write


@dataclass(frozen=True)
class ModelConfig:
    """One model of a server.

    Attributes:
        name: what requests call it.
        base: the folder of its version folders; a stock server also takes `gs://`.
        specific: the versions to serve, or empty for a policy by number.
        newest: how many of the newest versions to serve where none is specific; None for all.
        labels: version by label.
    """

    name: str
    base: str
    specific: tuple[int, ...] = ()
    newest: int | None = 1
    labels: Mapping[str, int] = field(default_factory=dict)

    def wanted(self, available: Iterable[int]) -> tuple[list[int], int]:
        """Which versions to try, the most wanted first, and how many of them are enough."""
        newest_first = sorted(available, reverse=True)
        if self.specific:
            chosen = sorted({*self.specific, *self.labels.values()}, reverse=True)
            return chosen, len(chosen)
        enough = len(newest_first) if self.newest is None else self.newest
        labeled = [version for version in newest_first if version in set(self.labels.values())]
        # A labeled version stays, however many newer ones there are.
        others = [version for version in newest_first if version not in labeled]
        newest_labeled = sum(version in labeled for version in newest_first[:enough])
        return labeled + others, len(labeled) + enough - newest_labeled


def from_message(message: ModelServerConfig) -> list[ModelConfig]:
    """Read the message of `HandleReloadConfigRequest` or of a `models.config`.

    Raises:
        ValueError: It is no list of models, or one of them cannot be served.
    """
    if message.WhichOneof("config") != "model_config_list":
        raise ValueError("only a model_config_list is supported")
    configs = []
    for entry in message.model_config_list.config:
        if not (entry.name and entry.base_path):
            raise ValueError("every model needs a name and a base_path")
        policy = entry.model_version_policy
        kind = policy.WhichOneof("policy_choice")
        specific = tuple(sorted(set(policy.specific.versions))) if kind == "specific" else ()
        if kind == "specific" and not specific:
            raise ValueError(f"model {entry.name}: a specific version policy names no version")
        newest = None if kind == "all" else max(1, policy.latest.num_versions)
        configs.append(ModelConfig(entry.name, entry.base_path, specific, newest, dict(entry.version_labels)))
    names = [config.name for config in configs]
    if not names or len(set(names)) < len(names):
        raise ValueError("expected at least one model, and each name once")
    return configs


def to_message(configs: Iterable[ModelConfig]) -> ModelServerConfig:
    """Write what `from_message` reads."""
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
    """Read a `models.config` in protobuf text format.

    Raises:
        InputError: There is no such file, or it is none.
    """
    try:
        return from_message(text_format.Parse(path.read_text(), ModelServerConfig()))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, text_format.ParseError) as error:
        raise InputError(f"{path}: is no models.config of TensorFlow Serving: {error}") from error


def write_model_config(path: Path, configs: Iterable[ModelConfig]) -> None:
    """Write a `models.config`, whole or not at all: a server may read it at any moment."""
    with atomic_write(path) as temporary:
        temporary.write_text(text_format.MessageToString(to_message(configs)))
