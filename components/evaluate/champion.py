"""The version that is served now: a new model is held against it, on the same cases."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from components.ct.inference import Network
from components.evaluate.cohort import Interval, mean_interval
from components.evaluate.scores import CaseScore
from components.runtime.errors import InputError

_VERDICT = Path("assets.extra") / "verdict.json"


@dataclass(frozen=True)
class Champion:
    """A served version, ready to answer.

    Attributes:
        name: such as "version 3".
        network: its answers on its own grid.
        image_size: edge of that grid.
        threshold: the probability from which on it counts a voxel as lesion.
        judged_on: digests of the scans that it was tested on, none of which it was fitted to.
    """

    name: str
    network: Network
    image_size: int
    threshold: float
    judged_on: frozenset[str]

    @classmethod
    def load(cls, version: Path, name: str) -> "Champion":
        """Load the version folder `version` as the export step writes it, and ask it once.

        Raises:
            InputError: it cannot be loaded, or does not answer as a version of ours does.
        """
        from serving.versions.saved_model import SavedModel

        try:
            model = SavedModel(version)
            size, threshold = model.image_size, model.threshold
        except Exception as error:  # TensorFlow raises anything: a version of other ops, another Keras, a damaged file
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
            raise InputError(f"{name}: no model to compare with ({reason}); roll back to one that answers") from error

        return cls(name, model.lesion_probability, size, threshold, _judged_on(version))


@dataclass(frozen=True)
class Comparison:
    """A new model against the champion, case by case.

    Attributes:
        name: of the champion.
        mean_change: mean of the differences in Dice, positive where the new model is better; None where the
            champion could not be scored on every case, which shuts the gate.
        interval: of that mean, over patients.
        unknown_cases: test cases that the champion was not tested on, and may have been trained on.
        problem: why it could not be scored, to follow its name; empty where it was.
    """

    name: str
    mean_change: float | None
    interval: Interval | None = None
    unknown_cases: int = 0
    problem: str = ""

    @classmethod
    def of(cls, champion: Champion, scores: Sequence[CaseScore]) -> "Comparison":
        """Pair the scores of the new model with the champion's."""
        changes = [row.dice - row.champion_dice for row in scores if row.champion_dice is not None]
        if not scores or len(changes) < len(scores):
            return cls(champion.name, None, problem=", which could not be scored on every test case")
        unknown = sum(row.sha256_scan not in champion.judged_on for row in scores)
        interval = mean_interval([row.patient_id for row in scores], changes)
        return cls(champion.name, fmean(changes), interval, unknown)


def _judged_on(version: Path) -> frozenset[str]:
    try:
        return frozenset(case["sha256_scan"] for case in json.loads((version / _VERDICT).read_text())["cases"])
    except (OSError, ValueError, KeyError, TypeError):
        return frozenset()  # then every test case counts as one that it may have been trained on
