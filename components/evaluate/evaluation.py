"""The result of an evaluation, from which the metrics, the report and the model card are written."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from statistics import fmean
from typing import Any

from components.evaluate.cohort import Comparison, Group
from components.evaluate.labeled_scan import SplitCases
from components.evaluate.levels import LevelCounts, ThresholdChoice
from components.evaluate.scores import CaseScore, with_lesion
from components.evaluate.verdict import Verdict

_MEANS = (  # columns of `CaseScore` that are averaged over the cases with lesion
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
    groups: list[Group]  # of the test cases with lesion; empty without any
    comparison: Comparison | None  # None for a first model
    split_cases: SplitCases
    training: Mapping[str, Any]  # the training record, including `history`

    @cached_property
    def with_lesion(self) -> list[CaseScore]:
        """The test cases that count in means."""
        return with_lesion(self.scores)

    @property
    def false_positive_ml(self) -> float | None:
        """The largest volume predicted in a test case without lesion; None if all have lesion."""
        return max((row.predicted_ml for row in self.scores if row.lesion_ml == 0), default=None)

    def mean(self, name: str) -> float:
        """Average a column of `CaseScore` over the test cases with lesion, of which there is one or more."""
        return fmean(getattr(row, name) for row in self.with_lesion)

    def summary(self) -> dict[str, float]:
        """Finite metrics by name; undefined ones are left out."""
        metrics: dict[str, float | None] = {
            "test_dice": self.verdict.test_dice,
            "validation_dice": self.threshold_choice.validation_dice,
            "threshold": self.threshold_choice.threshold,
            "test_cases": len(self.scores),
            "test_cases_with_lesion": len(self.with_lesion),
            "test_false_positive_ml": self.false_positive_ml,
            "slice_auc": self.slice_auc,
        }
        if self.scores:
            roc = self.counts.roc()
            metrics |= {
                "false_lesions_per_scan": fmean(row.false_lesions for row in self.scores),
                "calibration_error": self.counts.reliability().expected_calibration_error,
                "voxel_auc": roc.auc if roc else None,
                "champion_change": self.comparison.mean_change if self.comparison else None,
            }
        if self.with_lesion:
            cohort, lesions = self.groups[0], sum(row.lesions for row in self.with_lesion)
            metrics |= {
                "test_dice_median": cohort.median,
                "test_dice_worst_decile": cohort.worst_decile,
                "test_dice_worst": min(row.dice for row in self.with_lesion),
                "test_dice_ci_low": cohort.interval.low if cohort.interval else None,
                "test_dice_ci_high": cohort.interval.high if cohort.interval else None,
                "lesion_recall": sum(row.lesions_found for row in self.with_lesion) / lesions if lesions else None,
            }
            metrics |= {f"test_{name}": self.mean(name) for name in _MEANS}
        # KFP's launcher fails a step whose output holds NaN (backend/src/v2/component/launcher_v2.go).
        return {name: float(value) for name, value in metrics.items() if value is not None and isfinite(value)}
