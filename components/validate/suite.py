"""What a cohort must be like before anything is trained on it: one list, critical findings and warnings.

Importing Great Expectations takes seconds, so this module is imported where the suite is checked, not before.
"""

import logging

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.core import ExpectationValidationResult
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.metadata_types import FailureSeverity

from components.validate.findings import Finding

# The one module of the library that sets a level of its own while it is imported.
logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)

CRITICAL, WARNING = FailureSeverity.CRITICAL, FailureSeverity.WARNING
MIN_PATIENTS = 3  # one each for training, validation and test


def expectations() -> list[Expectation]:
    """The suite. `meta` holds what a finding says (`{value}`: what was found) and what to do about it."""
    return [
        _empty("read_error", CRITICAL, "cannot be read: {value}", "fetch or export the file again"),
        _empty("duplicate_of", CRITICAL, "has the very scan of case {value}", "remove one of the two"),
        _empty(
            "grid_difference",
            CRITICAL,
            "scan and mask lie on different grids: {value}",
            "export the mask on its scan's grid",
        ),
        _empty(
            "unexpected_labels",
            CRITICAL,
            "the mask holds the values {value}, expected 0 and 1",
            "set LABEL to the value that is the lesion, or correct the mask",
        ),
        _one_of(
            "intensity",
            ["hu", "windowed"],
            CRITICAL,
            "the scan's numbers are {value}: neither HU (air below -200) nor 8-bit over [-1250, 250] HU",
            "export the scan in HU",
        ),
        gxe.ExpectColumnUniqueValueCountToBeBetween(
            column="patient_id",
            min_value=MIN_PATIENTS,
            severity=CRITICAL,
            meta=_meta("{value} patients are too few to split", f"give scans of at least {MIN_PATIENTS} patients"),
        ),
        gxe.ExpectColumnMaxToBeBetween(
            column="lesion_voxels",
            min_value=1,
            severity=CRITICAL,
            meta=_meta(
                "no lesion in any mask", "check that the masks are the right ones: set MASKS to their folder, or LABEL"
            ),
        ),
        _between("lesion_voxels", 1, None, WARNING, "the mask is empty", "fine for a scan without lesion"),
        _between("lesion_share", None, 0.6, WARNING, "{value} of all voxels are lesion", "is the mask inverted?"),
        _between("lesion_hu_mean", -950, 300, WARNING, "the lesion's mean is {value} HU", "is the mask shifted?"),
        _between("column_spacing_mm", 0.2, 5, WARNING, "columns are {value} mm apart", "check the header"),
        _between("row_spacing_mm", 0.2, 5, WARNING, "rows are {value} mm apart", "check the header"),
        _between("slice_spacing_mm", 0.2, 10, WARNING, "slices are {value} mm apart", "check the header"),
        _between("width_mm", 100, 700, WARNING, "the scan is {value} mm wide", "check the header's spacing"),
        _between("depth_mm", 80, 700, WARNING, "the scan is {value} mm deep", "check the header's spacing"),
        _between("hu_p50", -1024, 200, WARNING, "the median is {value} HU", "is this a CT of the chest?"),
        _between("air_share", None, 0.9, WARNING, "{value} of all voxels are air", "is this a CT of the chest?"),
    ]


def check(facts: pd.DataFrame) -> list[Finding]:
    """Hold a fact table against the suite.

    Returns:
        The findings in the suite's order, those of one expectation in the table's.
    """
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    asset = context.data_sources.add_pandas("ingest").add_dataframe_asset("facts")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": facts})
    result = batch.validate(
        gx.ExpectationSuite("cohort", expectations=expectations()),
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["case_id"]},
    )
    return [finding for outcome in result.results if not outcome.success for finding in _findings(outcome)]


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


def _between(
    column: str, least: float | None, most: float | None, severity: FailureSeverity, says: str, remedy: str
) -> Expectation:
    return gxe.ExpectColumnValuesToBeBetween(
        column=column, min_value=least, max_value=most, severity=severity, meta=_meta(says, remedy)
    )
