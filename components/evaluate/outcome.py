"""All that an evaluation found, for the table of runs, the report and the model card."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from components.evaluate.champion import Comparison
from components.evaluate.cohort import Group
from components.evaluate.labeled_scan import HeldOut
from components.evaluate.levels import LevelCounts
from components.evaluate.rules import Limits
from components.evaluate.scores import CaseScore
from components.evaluate.threshold import ThresholdChoice
from components.evaluate.verdict import Verdict


@dataclass(frozen=True)
class Evaluation:
    """What came out.

    Attributes:
        verdict: the decision.
        scores: of the test cases.
        choice: how the threshold was chosen.
        counts: the test cases' voxels by the probability they were given.
        slice_auc: how well slices with lesion are told from others; None where there is one kind only.
        groups: the Dice of all test cases, and of parts of them.
        comparison: with the served version; None without one.
        held_out: the split's cases.
        training: what train wrote down of itself, `history` among it.
        limits: what was asked.
    """

    verdict: Verdict
    scores: list[CaseScore]
    choice: ThresholdChoice
    counts: LevelCounts
    slice_auc: float | None
    groups: list[Group]
    comparison: Comparison | None
    held_out: HeldOut
    training: Mapping[str, Any]
    limits: Limits

    def summary(self) -> dict[str, float]:
        """Finite numbers for a table of runs; what is not defined for these cases is left out."""
        numbers: dict[str, float | None] = {
            "test_dice": self.verdict.test_dice,
            "validation_dice": self.choice.validation_dice,
            "threshold": self.choice.threshold,
            "test_cases": len(self.scores),
            "slice_auc": self.slice_auc,
        }
        if self.scores:
            every = self.groups[0]
            roc, lesions = self.counts.roc(), sum(row.lesions for row in self.scores)
            numbers |= {
                "test_dice_median": every.median,
                "test_dice_worst_decile": every.worst_decile,
                "test_dice_worst": min(row.dice for row in self.scores),
                "test_dice_ci_low": every.interval.low if every.interval else None,
                "test_dice_ci_high": every.interval.high if every.interval else None,
                "lesion_recall": sum(row.lesions_found for row in self.scores) / lesions if lesions else None,
                "false_lesions_per_scan": fmean(row.false_lesions for row in self.scores),
                "calibration_error": self.counts.reliability().expected_calibration_error,
                "voxel_auc": roc.auc if roc else None,
                "champion_change": self.comparison.mean_change if self.comparison else None,
            }
            for name in _MEANS:
                numbers[f"test_{name}"] = fmean(getattr(row, name) for row in self.scores)
        return {name: float(value) for name, value in numbers.items() if value is not None}


_MEANS = (
    "round_trip_dice",
    "surface_dice",
    "hd95_mm",
    "iou",
    "sensitivity",
    "precision",
    "specificity",
    "volume_error_ml",
    "accuracy",
    "all_background_accuracy",
    "all_background_dice",
)
