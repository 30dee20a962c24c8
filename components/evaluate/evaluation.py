"""The result of an evaluation, from which the metrics, the report and the model card are written."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from statistics import fmean
from typing import Any

from components.evaluate.cohort import Comparison, Group
from components.evaluate.labeled_scan import SplitCases
from components.evaluate.levels import LevelCounts, ThresholdChoice
from components.evaluate.scores import CaseScore
from components.evaluate.verdict import Verdict

_MEANS = (  # columns of `CaseScore` that are averaged over cases
    *("round_trip_dice", "surface_dice", "hd95_mm", "iou", "sensitivity", "precision", "specificity"),
    *("volume_error_ml", "accuracy", "all_background_accuracy", "all_background_dice"),
)


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation."""

    verdict: Verdict
    scores: list[CaseScore]  # of the test cases
    threshold_choice: ThresholdChoice
    counts: LevelCounts  # of all test cases
    slice_auc: float | None  # None if all slices are of one kind
    groups: list[Group]
    comparison: Comparison | None  # None for a first model
    split_cases: SplitCases
    training: Mapping[str, Any]  # the training record, including `history`

    def summary(self) -> dict[str, float]:
        """Finite metrics by name; undefined ones are left out."""
        metrics: dict[str, float | None] = {
            "test_dice": self.verdict.test_dice,
            "validation_dice": self.threshold_choice.validation_dice,
            "threshold": self.threshold_choice.threshold,
            "test_cases": len(self.scores),
            "slice_auc": self.slice_auc,
        }
        if self.scores:
            cohort, roc = self.groups[0], self.counts.roc()
            lesions = sum(row.lesions for row in self.scores)
            metrics |= {
                "test_dice_median": cohort.median,
                "test_dice_worst_decile": cohort.worst_decile,
                "test_dice_worst": min(row.dice for row in self.scores),
                "test_dice_ci_low": cohort.interval.low if cohort.interval else None,
                "test_dice_ci_high": cohort.interval.high if cohort.interval else None,
                "lesion_recall": sum(row.lesions_found for row in self.scores) / lesions if lesions else None,
                "false_lesions_per_scan": fmean(row.false_lesions for row in self.scores),
                "calibration_error": self.counts.reliability().expected_calibration_error,
                "voxel_auc": roc.auc if roc else None,
                "champion_change": self.comparison.mean_change if self.comparison else None,
            }
            metrics |= {f"test_{name}": fmean(getattr(row, name) for row in self.scores) for name in _MEANS}
        # KFP's launcher fails a step whose output holds NaN (backend/src/v2/component/launcher_v2.go).
        return {name: float(value) for name, value in metrics.items() if value is not None and isfinite(value)}
