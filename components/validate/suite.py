"""What a cohort must be like before anything is trained on it: one list, critical findings and warnings.

Importing Great Expectations takes seconds, so this module is imported where the suite is checked, not before.
"""

import logging
from dataclasses import dataclass

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.core import ExpectationValidationResult
from great_expectations.core.expectation_validation_result import ExpectationSuiteValidationResult
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.metadata_types import FailureSeverity

from components.ct.intensity import WINDOW_HU
from components.validate.findings import Finding

# The one module of the library that sets a level of its own while it is imported.
logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)

CRITICAL, WARNING = FailureSeverity.CRITICAL, FailureSeverity.WARNING
MIN_PATIENTS = 3  # one each for training, validation and test

_MASKS = "set MASKS to their folder, or LABEL"
_SET_LABEL = "set LABEL to the value that is the lesion, or correct the mask"
_EXPORT_ON_GRID = "export the mask on its scan's grid"
_NEITHER_HU_NOR_WINDOWED = (
    "the scan's numbers are {value}: neither HU (air below -200) nor 8-bit over "
    f"[{WINDOW_HU[0]:g}, {WINDOW_HU[1]:g}] HU"
)
_FLIPPED = "is the mask flipped or shifted? see its picture"
_LUNGS_DIFFER = "the lungs of this patient's scans differ by a factor of {value}"


def expectations() -> list[Expectation]:
    """The suite. `meta` holds what a finding says (`{value}`: what was found) and what to do about it."""
    return [
        # the files
        _empty("read_error", CRITICAL, "cannot be read: {value}", "fetch or export the file again"),
        _empty("duplicate_of", CRITICAL, "has the very scan of case {value}", "remove one of the two"),
        _empty("mask_duplicate_of", CRITICAL, "has the very mask of case {value}", "give each scan its own mask"),
        _empty("grid_difference", CRITICAL, "scan and mask lie on different grids: {value}", _EXPORT_ON_GRID),
        _empty("unexpected_labels", CRITICAL, "the mask holds the values {value}, expected 0 and 1", _SET_LABEL),
        _one_of("intensity", ["hu", "windowed"], CRITICAL, _NEITHER_HU_NOR_WINDOWED, "export the scan in HU"),
        # the cohort
        _patients(MIN_PATIENTS, CRITICAL, "{value} patients are too few to split", f"give at least {MIN_PATIENTS}"),
        _most("lesion_voxels", 1, CRITICAL, "no lesion in any mask", f"check that they are the right ones: {_MASKS}"),
        # the mask on the scan
        _between("lesion_voxels", 1, None, WARNING, "the mask is empty", "fine for a scan without lesion"),
        _between("lesion_share", None, 0.6, WARNING, "{value} of all voxels are lesion", "is the mask inverted?"),
        _between("lesion_hu_mean", -950, 300, WARNING, "the lesion's mean is {value} HU", "is the mask shifted?"),
        _between("lesion_outside_share", None, 0.05, WARNING, "{value} of the lesion is outside the body", _FLIPPED),
        _between("lesion_count", None, 500, WARNING, "{value} separate lesions", "is the mask noise?"),
        # the geometry
        _between("column_spacing_mm", 0.2, 5, WARNING, "columns are {value} mm apart", "check the header"),
        _between("row_spacing_mm", 0.2, 5, WARNING, "rows are {value} mm apart", "check the header"),
        _between("slice_spacing_mm", 0.2, 10, WARNING, "slices are {value} mm apart", "check the header"),
        _between("width_mm", 100, 700, WARNING, "the scan is {value} mm wide", "check the header's spacing"),
        _between("depth_mm", 80, 700, WARNING, "the scan is {value} mm deep", "check the header's spacing"),
        _between("height_mm", None, 1000, WARNING, "the scan is {value} mm high", "check the header's spacing"),
        _between("oblique_degrees", None, 30, WARNING, "is tilted by {value} degrees", "slices are not axial"),
        _between("lung_ml", 1000, 8000, WARNING, "the lungs hold {value} mL of air", "check the header's spacing"),
        _between("patient_lung_ratio", None, 1.5, WARNING, _LUNGS_DIFFER, "a spacing is wrong, or patients are mixed"),
        # the numbers
        _between("hu_p50", -1024, 200, WARNING, "the median is {value} HU", "is this a CT of the chest?"),
        _between("air_share", None, 0.9, WARNING, "{value} of all voxels are air", "is this a CT of the chest?"),
        _between("empty_slices", None, 5, WARNING, "{value} slices show no tissue", "crop the scan to the patient"),
    ]


@dataclass(frozen=True)
class Checked:
    """A fact table held against the suite: the findings, in the suite's order, and the library's own account."""

    findings: list[Finding]
    suite: gx.ExpectationSuite
    result: ExpectationSuiteValidationResult


def check(facts: pd.DataFrame) -> Checked:
    """Hold a fact table against the suite."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    asset = context.data_sources.add_pandas("ingest").add_dataframe_asset("facts")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": facts})
    suite = gx.ExpectationSuite("cohort", expectations=expectations())
    result = batch.validate(
        suite, result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["case_id"]}
    )
    return Checked([one for part in result.results if not part.success for one in _findings(part)], suite, result)


def _findings(outcome: ExpectationValidationResult) -> list[Finding]:
    config = outcome.expectation_config
    assert config is not None
    if not outcome.result:
        raise RuntimeError(f"{config.type} on {config.kwargs} could not be checked: {outcome.exception_info}")
    column, meta = config.kwargs["column"], config.meta or {}
    of_cases = outcome.result.get("unexpected_index_list")
    found = (
        [(None, outcome.result["observed_value"])]
        if of_cases is None
        else [(row["case_id"], row[column]) for row in of_cases]
    )
    return [
        Finding(config.severity.value, case_id, column, meta["says"].format(value=_text(value)), meta["remedy"])
        for case_id, value in found
    ]


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _meta(says: str, remedy: str) -> dict[str, str]:
    return {"says": says, "remedy": remedy}


def _empty(column: str, severity: FailureSeverity, says: str, remedy: str) -> Expectation:
    return gxe.ExpectColumnValuesToBeNull(column=column, severity=severity, meta=_meta(says, remedy))


def _one_of(column: str, values: list[str], severity: FailureSeverity, says: str, remedy: str) -> Expectation:
    return gxe.ExpectColumnValuesToBeInSet(column=column, value_set=values, severity=severity, meta=_meta(says, remedy))


def _patients(least: int, severity: FailureSeverity, says: str, remedy: str) -> Expectation:
    return gxe.ExpectColumnUniqueValueCountToBeBetween(
        column="patient_id", min_value=least, severity=severity, meta=_meta(says, remedy)
    )


def _most(column: str, least: float, severity: FailureSeverity, says: str, remedy: str) -> Expectation:
    return gxe.ExpectColumnMaxToBeBetween(column=column, min_value=least, severity=severity, meta=_meta(says, remedy))


def _between(
    column: str, least: float | None, most: float | None, severity: FailureSeverity, says: str, remedy: str
) -> Expectation:
    return gxe.ExpectColumnValuesToBeBetween(
        column=column, min_value=least, max_value=most, severity=severity, meta=_meta(says, remedy)
    )
