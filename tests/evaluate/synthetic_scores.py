"""Synthetic rows of the table of test cases: a test sets the fields it is about, the rest pass every rule."""

from dataclasses import replace
from typing import Any

from components.evaluate.scores import CaseScore

_ROW = CaseScore(
    case_id="case",
    patient_id="case",
    site="synthetic",
    intensity="hu",
    slices=1,
    lesion_ml=1.0,
    predicted_ml=1.0,
    volume_error_ml=0.0,
    dice=1.0,
    round_trip_dice=1.0,
    champion_dice=None,
    surface_dice=1.0,
    hd95_mm=1.0,
    iou=1.0,
    sensitivity=1.0,
    precision=1.0,
    specificity=1.0,
    lesions=1,
    lesions_found=1,
    false_lesions=0,
    accuracy=0.99,
    all_background_dice=0.0,
    all_background_accuracy=0.99,
    sha256_scan="b" * 64,
    sha256_mask="c" * 64,
)


def case_score(dice: float, case_id: str = "case", **changes: Any) -> CaseScore:
    """Return the score of a case whose patient has no other."""
    return replace(_ROW, **{"dice": dice, "case_id": case_id, "patient_id": case_id, **changes})
