"""Which version stands under which label, as TF Serving's `models.config` says it, and how it came to that.

The file is written whole under its name, so that a server which follows it takes a promotion or a rollback over
without a restart. Beside it lies the ledger, a line of JSON for each change, only ever added to.
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
from typing import Any

from components.runtime.errors import InputError
from components.storage.gcs_uri import is_gcs_uri
from serving.versions.manifest import verify
from serving.versions.model_config import ModelConfig, read_model_config, write_model_config
from serving.versions.publication import complete_versions, local_copy

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_VERDICT = Path("assets.extra") / "verdict.json"


@dataclass(frozen=True)
class Change:
    """A line of the ledger: `label` of `model` went from one version to another."""

    when: str
    who: str
    why: str
    action: str
    model: str
    label: str
    from_version: int | None
    to_version: int
    verdict: str | None
    test_dice: float | None
    model_sha256: str | None


class Labels:
    """The labels of one model in a `models.config`.

    Args:
        config_file: the `models.config`; made where missing.
        model: the model's name.
        base: folder of its version folders, or `gs://bucket/prefix`.
    """

    def __init__(self, config_file: Path, model: str, base: str) -> None:
        self.config_file = config_file
        self.ledger_file = config_file.with_suffix(".ledger.jsonl")
        self.model = model
        self.base = base if is_gcs_uri(base) else str(Path(base).absolute())

    def promote(self, version: int, label: str, why: str, who: str | None = None) -> Change:
        """Let `label` point at `version`, whose files are verified first.

        Raises:
            InputError: No such version, its files are not those exported, or the label is none.
        """
        if not _LABEL.fullmatch(label):
            raise InputError(f"label {label!r}: expected letters, digits, '-' and '_', such as stable or canary")
        with self._locked():
            return self._point(version, label, why, who, "promote")

    def rollback(self, label: str, why: str, who: str | None = None) -> Change:
        """Let `label` point at the version that it had before its present one was promoted.

        Raises:
            InputError: The ledger knows of none, or it is gone.
        """
        with self._locked():
            present = self.labels().get(label)
            promotions = [c for c in self.ledger() if c.label == label and c.action == "promote"]
            before = next((c.from_version for c in reversed(promotions) if c.to_version == present), None)
            if present is None or before is None:
                raise InputError(
                    f"{self.ledger_file}: knows of no version of {self.model} under label {label} before "
                    f"{'the present one' if present is None else present}; promote one by its number"
                )
            return self._point(before, label, why, who, "rollback")

    def labels(self) -> dict[str, int]:
        """Version by label, as the file says now."""
        return dict(self._config().labels)

    def ledger(self) -> list[Change]:
        """Every change of this model so far, the oldest first."""
        if not self.ledger_file.is_file():
            return []
        try:
            changes = [Change(**json.loads(line)) for line in self.ledger_file.read_text().splitlines()]
        except (ValueError, TypeError) as error:
            raise InputError(f"{self.ledger_file}: is no ledger of promotions: {error}") from error
        return [change for change in changes if change.model == self.model]

    def _point(self, version: int, label: str, why: str, who: str | None, action: str) -> Change:
        folders = complete_versions(self.base)
        if version not in folders:
            there = ", ".join(map(str, folders)) or "none"
            raise InputError(f"{self.base}: has no version {version}; there are: {there}")
        with local_copy(folders[version]) as folder:
            verify(folder)
            verdict = _verdict(folder)
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
            **verdict,
        )
        labels = {**config.labels, label: version}
        served = tuple(sorted(set(labels.values())))
        # The ledger first: a change that was noted and not made is seen, one made and not noted is lost.
        with self.ledger_file.open("a") as file:
            file.write(json.dumps(asdict(change)) + "\n")
        others = [c for c in self._configs() if c.name != self.model]
        write_model_config(self.config_file, [*others, replace(config, specific=served, labels=labels)])
        return change

    def _config(self) -> ModelConfig:
        known = next((config for config in self._configs() if config.name == self.model), None)
        return known or ModelConfig(self.model, self.base)

    def _configs(self) -> list[ModelConfig]:
        return read_model_config(self.config_file) if self.config_file.exists() else []

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One change at a time, whichever process makes it."""
        self.config_file.parent.mkdir(parents=True, exist_ok=True)
        with self.config_file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _verdict(version: Path) -> dict[str, Any]:
    """What the evaluation said of a version, where it came with its verdict."""
    path = version / _VERDICT
    content = json.loads(path.read_text()) if path.is_file() else {}
    return {key: content.get(key) for key in ("verdict", "test_dice", "model_sha256")}
