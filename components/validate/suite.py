"""The expectation suite: conditions on the fact table of a cohort, as critical findings and warnings."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.core import ExpectationValidationResult
from great_expectations.core.expectation_validation_result import ExpectationSuiteValidationResult
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.metadata_types import FailureSeverity

from components.runtime.errors import format_beside
from components.validate.outcome import Finding, Severity

# The only module of the library that sets its own level on import.
logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)

_CRITICAL, _WARNING = FailureSeverity.CRITICAL, FailureSeverity.WARNING
_FEW_PATIENTS, _ADD_PATIENTS = "{value} patients are too few to split", "provide at least 3"
_SET_LABEL = "set LABEL to the mask value of the lesion"
_CHECK_MASKS = f"set MASKS to the folder of lesion masks, or {_SET_LABEL}"
_FLIPPED = "check the picture for a flipped or shifted mask"
_OWN_MASK = "two small lesions may agree; otherwise give each scan its own mask"
_SPACING = "check the spacing in the header"
_LUNGS_DIFFER = "the lung volumes of this patient's scans differ by a factor of {value}"


def expectations() -> list[Expectation]:
    """Build the suite. `meta` holds the message of a finding, with `{value}` for the value found, and the remedy."""
    return [
        # files
        _null("read_error", "unreadable: {value}", "download or export the file again"),
        _null("duplicate_of", "the scan is identical to that of case {value}", "remove one of the two"),
        _null("mask_duplicate_of", "the mask is identical to that of case {value}", _OWN_MASK, _WARNING),
        _null("grid_difference", "scan and mask have different grids: {value}", "export the mask on the scan's grid"),
        _null("unexpected_labels", "the mask has values {value}; expected 0 and 1", f"{_SET_LABEL}, or fix the mask"),
        _null("scale_problem", "{value}", "export the scan in HU"),
        # cohort
        _expect(gxe.ExpectColumnUniqueValueCountToBeBetween, "patient_id", _FEW_PATIENTS, _ADD_PATIENTS, min_value=3),
        _expect(gxe.ExpectColumnMaxToBeBetween, "lesion_voxels", "no mask has a lesion", _CHECK_MASKS, min_value=1),
        # mask on scan
        _between("lesion_voxels", 1, None, "the mask is empty", "correct only if the scan has no lesion"),
        _between("lesion_share", None, 0.6, "{value} of all voxels are lesion", "check for an inverted mask"),
        _between("lesion_hu_mean", -950, 300, "the lesion's mean is {value} HU", "check for a shifted mask"),
        _between("lesion_outside_share", None, 0.05, "{value} of the lesion is outside the body", _FLIPPED),
        _between("lesion_count", None, 500, "the mask has {value} separate lesions", "check for noise"),
        # geometry
        _null("geometry_notes", "{value}", "check the header", _WARNING),
        _between("width_mm", 100, 700, "the scan is {value} mm wide", _SPACING),
        _between("depth_mm", 80, 700, "the scan is {value} mm deep", _SPACING),
        _between("height_mm", None, 1000, "the scan is {value} mm high", _SPACING),
        _between("lung_ml", 1000, 8000, "the lungs contain {value} mL of air", _SPACING),
        _between("patient_lung_ratio", None, 1.5, _LUNGS_DIFFER, "check the spacings and the patient ids"),
        # intensities
        _between("hu_p50", -1024, 200, "the median is {value} HU", "check that this is a chest CT"),
        _between("air_share", None, 0.9, "{value} of all voxels are air", "check that this is a chest CT"),
        _between("empty_slices", None, 5, "{value} slices have no tissue", "crop the scan to the patient"),
    ]


class SuiteResult(NamedTuple):
    """The result of the suite on a fact table: findings in the order of the suite, and the library's own objects."""

    findings: list[Finding]
    suite: gx.ExpectationSuite
    validation: ExpectationSuiteValidationResult


def check_facts(facts: pd.DataFrame) -> SuiteResult:
    """Check a fact table against the suite."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    asset = context.data_sources.add_pandas("ingest").add_dataframe_asset("facts")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": facts})
    suite = gx.ExpectationSuite("cohort", expectations=expectations())
    result_format = {"result_format": "COMPLETE", "unexpected_index_column_names": ["case_id"]}
    validation = batch.validate(suite, result_format=result_format)
    findings = [finding for result in validation.results if not result.success for finding in _findings(result)]
    return SuiteResult(findings, suite, validation)


def _findings(result: ExpectationValidationResult) -> list[Finding]:
    config = result.expectation_config
    assert config is not None
    if not result.result:
        raise RuntimeError(f"{config.type} on {config.kwargs} could not be checked: {result.exception_info}")
    column, meta = config.kwargs["column"], config.meta or {}
    rows = result.result.get("unexpected_index_list")
    if rows is None:  # an expectation on the cohort
        rows = [{"case_id": None, column: result.result["observed_value"]}]
    findings = []
    for row in rows:
        message = meta["message"].format(value=_format(column, row[column], *_limits(config.kwargs)))
        findings.append(Finding(Severity(config.severity.value), row["case_id"], column, message, meta["remedy"]))
    return findings


def _null(column: str, message: str, remedy: str, severity: FailureSeverity = _CRITICAL) -> Expectation:
    return _expect(gxe.ExpectColumnValuesToBeNull, column, message, remedy, severity)


def _between(column: str, low: float | None, high: float | None, message: str, remedy: str) -> Expectation:
    limits = {"min_value": low, "max_value": high}
    if "{value}" in message:
        words = "" if None not in (low, high) else "at least " if high is None else "at most "
        message += f"; expected {words}{' to '.join(str(_format(column, float(x))) for x in _limits(limits))}"
    return _expect(gxe.ExpectColumnValuesToBeBetween, column, message, remedy, _WARNING, **limits)


def _limits(parameters: Mapping[str, Any]) -> list[float]:
    values = (parameters.get(name) for name in ("min_value", "max_value"))
    return [value for value in values if value is not None]


def _format(column: str, value: object, *limits: float) -> object:
    """Format a fact with the digits that show its difference from the limits; shares in percent."""
    if not isinstance(value, float):
        return value
    if column.endswith("_share"):
        return format_beside(100 * value, *(100 * limit for limit in limits)) + " %"
    return format_beside(value, *limits)


def _expect(
    kind: type, column: str, message: str, remedy: str, severity: FailureSeverity = _CRITICAL, **parameters: Any
) -> Expectation:
    meta = {"message": message, "remedy": remedy}
    expectation: Expectation = kind(column=column, severity=severity, meta=meta, **parameters)
    return expectation
