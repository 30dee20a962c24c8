"""Version labels of a model, such as `stable`: promote a version to a label, roll it back, and keep a ledger.

The labels are in TF Serving's `models.config`, which is replaced atomically: a server that watches it needs no
restart. Each change appends one line of JSON to the ledger beside it.
"""

import fcntl
import getpass
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

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
    """The version labels of one model in a `models.config`, which is created if missing."""

    def __init__(self, config_file: Path, model: str, base: str) -> None:
        self.config_file = config_file
        self.ledger_file = config_file.with_suffix(".ledger.jsonl")
        self.model = model
        self.base = base if is_gcs_uri(base) else str(Path(base).absolute())

    def promote(self, version: int, label: str, *, why: str, who: str | None = None) -> Change:
        """Point `label` at `version` after verifying the version's files.

        Raises:
            InputError: The version does not exist, its files differ from its manifest, or the label is malformed.
        """
        if not _LABEL.fullmatch(label):
            raise InputError(f"label {label!r}: expected letters, digits, '-' and '_', such as stable or canary")
        with self._lock():
            return self._point(version, label, why, who, "promote")

    def rollback(self, label: str, *, why: str, who: str | None = None) -> Change:
        """Point `label` back at the version it had before the present one was promoted.

        Raises:
            InputError: The ledger has no earlier version, or that version is gone.
        """
        with self._lock():
            current = self.current().get(label)
            promotions = [c for c in self.changes() if c.label == label and c.action == "promote"]
            previous = next((c.from_version for c in reversed(promotions) if c.to_version == current), None)
            if current is None or previous is None:
                raise InputError(
                    f"{self.ledger_file}: has no version of {self.model} with label {label} before "
                    f"{'the present one' if current is None else current}; promote a version by its number"
                )
            return self._point(previous, label, why, who, "rollback")

    def current(self) -> dict[str, int]:
        """Read the version of each label from the `models.config`."""
        return dict(self._config().labels)

    def changes(self) -> list[Change]:
        """Read every change of this model from the ledger, oldest first."""
        if not self.ledger_file.is_file():
            return []
        try:
            changes = [Change(**json.loads(line)) for line in self.ledger_file.read_text().splitlines()]
        except (ValueError, TypeError) as error:
            raise InputError(f"{self.ledger_file}: not a ledger of promotions: {error}") from error
        return [change for change in changes if change.model == self.model]

    def _point(self, version: int, label: str, why: str, who: str | None, action: Action) -> Change:
        folders = complete_versions(self.base)
        if version not in folders:
            available = ", ".join(map(str, folders)) or "none"
            raise InputError(f"{self.base}: has no version {version}; available: {available}")
        with local_copy(folders[version]) as folder:
            verify(folder)
            path = folder / ASSETS_EXTRA / VERDICT_FILE
            verdict = json.loads(path.read_text()) if path.is_file() else {}
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
        labels = {**config.labels, label: version}
        # Ledger first: a recorded change that did not happen is visible, an unrecorded one is lost.
        with self.ledger_file.open("a") as file:
            file.write(json.dumps(asdict(change)) + "\n")
        others = [c for c in self._configs() if c.name != self.model]
        specific = tuple(sorted(set(labels.values())))
        write_model_config(self.config_file, [*others, replace(config, specific=specific, labels=labels)])
        return change

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
