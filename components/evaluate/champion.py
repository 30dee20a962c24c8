"""The version that is served now: a new model is held against it, on the same cases."""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.ct.errors import InputError
from components.evaluate.cohort import Interval, mean_interval
from components.evaluate.inference import Network
from components.evaluate.scores import CaseScore

_VERDICT = Path("assets.extra") / "verdict.json"
_GRAPH = "saved_model.pb"


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
    def load(cls, version: Path) -> "Champion":
        """Load a version folder as the export step writes it.

        Raises:
            InputError: it cannot be loaded, or has no signature `network`.
        """
        import tensorflow as tf

        try:
            loaded = tf.saved_model.load(str(version))
            signature = loaded.signatures["network"]
            (given,) = signature.structured_input_signature[1].values()
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise InputError(
                f"{version}: no model to compare with ({reason}); name a version that is served"
            ) from error
        size = int(given.shape[1])
        blank = signature(**{given.name: tf.zeros((1, size, size), given.dtype)})

        def network(slices_hu: NDArray[np.int16], _keep: Any = loaded) -> NDArray[np.float32]:
            return signature(**{given.name: tf.constant(slices_hu)})["lesion_probability"].numpy()

        return cls(f"version {version.name}", network, size, float(blank["threshold"].numpy()[0]), _judged_on(version))


@dataclass(frozen=True)
class Comparison:
    """A new model against the champion, case by case.

    Attributes:
        name: of the champion.
        mean_change: mean of the differences in Dice, positive where the new model is better.
        interval: of that mean, over patients.
        unknown_cases: test cases that the champion was not tested on, and may have been trained on.
    """

    name: str
    mean_change: float
    interval: Interval | None
    unknown_cases: int

    @classmethod
    def of(cls, champion: Champion, scores: list[CaseScore]) -> "Comparison | None":
        """Pair the scores; None unless there are some and the champion was scored on every case."""
        changes = [row.dice - row.champion_dice for row in scores if row.champion_dice is not None]
        if not scores or len(changes) < len(scores):
            return None
        unknown = sum(row.sha256_scan not in champion.judged_on for row in scores)
        interval = mean_interval([row.patient_id for row in scores], changes)
        return cls(champion.name, fmean(changes), interval, unknown)


def served_version(path: Path) -> Path | None:
    """The version folder that `path` is, or the newest one in it, which is what TF Serving serves; None without."""
    if (path / _GRAPH).is_file():
        return path
    if not path.is_dir():
        return None
    complete = [folder for folder in path.iterdir() if folder.name.isdecimal() and (folder / _GRAPH).is_file()]
    return max(complete, key=lambda folder: int(folder.name), default=None)


def _judged_on(version: Path) -> frozenset[str]:
    try:
        return frozenset(case["sha256_scan"] for case in json.loads((version / _VERDICT).read_text())["cases"])
    except (OSError, ValueError, KeyError, TypeError):
        return frozenset()  # then every test case counts as one that it may have been trained on
