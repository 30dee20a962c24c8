"""Version labels of a model, such as `stable`, in TF Serving's `models.config`, and the ledger of their changes.

Servers that follow the file refuse to move a label to a version that they have not loaded. A label therefore moves in
steps, each an atomic replacement of the file: `add` the version, `move` the label, `prune` versions out of use.
`serving.client.promotion` takes the steps when the servers are ready for them.
"""

import fcntl
import getpass
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from components.runtime.errors import InputError
from components.storage.gcs_uri import is_gcs_uri
from serving.versions.layout import ASSETS_EXTRA, VERDICT_FILE, complete_versions, local_copy
from serving.versions.manifest import verify
from serving.versions.model_config import ModelConfig, read_model_config, write_model_config

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
Action = Literal["promote", "rollback"]


@dataclass(frozen=True)
class Change:
    """A line of the ledger: `label` of `model` moved from one version to another."""

    when: str
    who: str
    why: str
    action: Action
    model: str
    label: str
    from_version: int | None
    to_version: int
    verdict: str | None
    test_dice: float | None
    model_sha256: str | None


class VersionLabels:
    """The version labels of one model in a `models.config`, which is created if missing.

    `base` is where versions are verified. It may differ from the file's `base_path`, which servers load from: a local
    copy of a bucket, for example. A new file gets `base` as its `base_path`.
    """

    def __init__(self, config_file: Path, model: str, base: str) -> None:
        self.config_file = config_file
        self.ledger_file = config_file.with_suffix(".ledger.jsonl")
        self.model = model
        self.base = base if is_gcs_uri(base) else str(Path(base).absolute())

    def current(self) -> dict[str, int]:
        """Read the version of each label."""
        return dict(self._config().labels)

    def serving_base(self) -> str:
        """Read the folder that servers load versions from."""
        return self._config().base

    def previous(self, label: str) -> int:
        """Return the version that `label` had before the present one was promoted.

        Raises:
            InputError: The ledger has none.
        """
        current = self.current().get(label)
        promotions = [change for change in self._moves(label) if change.action == "promote"]
        previous = next((c.from_version for c in reversed(promotions) if c.to_version == current), None)
        if current is None or previous is None:
            raise InputError(
                f"{self.ledger_file}: has no version of {self.model} with label {label} before "
                f"{'the present one' if current is None else current}; promote a version by its number"
            )
        return previous

    def changes(self) -> list[Change]:
        """Read every change of this model from the ledger, oldest first."""
        if not self.ledger_file.is_file():
            return []
        try:
            changes = [Change(**json.loads(line)) for line in self.ledger_file.read_text().splitlines()]
        except (ValueError, TypeError) as error:
            raise InputError(f"{self.ledger_file}: not a ledger of promotions: {error}") from error
        return [change for change in changes if change.model == self.model]

    def add(self, version: int) -> bool:
        """Let servers load `version`, without a label, after verifying its files; return False if they already do.

        Raises:
            InputError: The version does not exist, or its files differ from its manifest.
        """
        self._verify(version)
        with self._lock():
            config = self._config()
            return self._write(config, {*config.specific, *self._in_use(config.labels), version}, config.labels)

    def move(self, version: int, label: str, *, why: str, who: str | None = None, action: Action = "promote") -> Change:
        """Point `label` at `version` after verifying its files, and record the change. Servers must have loaded it.

        Raises:
            InputError: The version does not exist, its files differ from its manifest, or the label is malformed.
        """
        check_label(label)
        verdict = self._verify(version)
        with self._lock():
            config = self._config()
            change = Change(
                when=datetime.now(UTC).isoformat(timespec="seconds"),
                who=who or getpass.getuser(),
                why=why,
                action=action,
                model=self.model,
                label=label,
                from_version=config.labels.get(label),
                to_version=version,
                verdict=verdict.get("verdict"),
                test_dice=verdict.get("test_dice"),
                model_sha256=verdict.get("model_sha256"),
            )
            # Ledger first: a recorded change that did not happen is visible, an unrecorded one is lost.
            with self.ledger_file.open("a") as file:
                file.write(json.dumps(asdict(change)) + "\n")
            labels = {**config.labels, label: version}
            self._write(config, {*config.specific, *self._in_use(labels)}, labels)
            return change

    def prune(self) -> bool:
        """Let servers unload the versions that no label has now or had just before; return False if there are none."""
        with self._lock():
            config = self._config()
            return self._write(config, self._in_use(config.labels), config.labels)

    def _in_use(self, labels: Mapping[str, int]) -> set[int]:
        """Return the version of each label, and the one before its last change, for a rollback at once."""
        last_moves = [moves[-1] for label in labels if (moves := self._moves(label))]
        return {*labels.values(), *(c.from_version for c in last_moves if c.from_version is not None)}

    def _moves(self, label: str) -> list[Change]:
        return [c for c in self.changes() if c.label == label and c.from_version != c.to_version]

    def _verify(self, version: int) -> dict[str, Any]:
        """Verify a version's files and return the verdict of its evaluation."""
        folders = complete_versions(self.base)
        if version not in folders:
            available = ", ".join(map(str, folders)) or "none"
            raise InputError(f"{self.base}: has no version {version}; available: {available}")
        with local_copy(folders[version]) as folder:
            verify(folder)
            path = folder / ASSETS_EXTRA / VERDICT_FILE
            return dict(json.loads(path.read_text())) if path.is_file() else {}

    def _write(self, config: ModelConfig, versions: Iterable[int], labels: Mapping[str, int]) -> bool:
        changed = replace(config, specific=tuple(sorted(versions)), labels=labels)
        if changed == config:
            return False
        others = [c for c in self._configs() if c.name != self.model]
        write_model_config(self.config_file, [*others, changed])
        return True

    def _config(self) -> ModelConfig:
        config = next((config for config in self._configs() if config.name == self.model), None)
        return config or ModelConfig(self.model, self.base)

    def _configs(self) -> list[ModelConfig]:
        return read_model_config(self.config_file) if self.config_file.exists() else []

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Exclude changes by other processes."""
        self.config_file.parent.mkdir(parents=True, exist_ok=True)
        with self.config_file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def check_label(label: str) -> None:
    """Raise `InputError` for a malformed label."""
    if not _LABEL.fullmatch(label):
        raise InputError(f"label {label!r}: expected letters, digits, '-' and '_', such as stable or canary")
