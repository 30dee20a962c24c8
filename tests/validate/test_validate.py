"""Cohorts checked against the expectations."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from components.ct.cases import read_cases, write_cases
from components.runtime.errors import CohortError, InputError
from components.validate.data_docs import RESULT_PAGE, SUITE, SUITE_PAGE
from components.validate.facts import COLUMNS
from components.validate.profile import Profile
from components.validate.validate import DRIFT, FACTS, FINDINGS, RESIZE_AUDIT, Outputs, validate

SHAPE = (40, 36, 5)  # of the small cohort's volumes


@pytest.fixture
def run(small_cohort, tmp_path):
    """Return a function that validates the small cohort."""

    def run(**options):
        return validate(small_cohort, Outputs.inside(tmp_path), **({"image_size": 32} | options))

    return run


def test_a_valid_cohort_is_accepted_with_its_facts(small_cohort, run, tmp_path):
    outcome = run()
    assert outcome.critical == []
    assert read_cases(tmp_path / "accepted") == read_cases(small_cohort)
    facts = pd.read_csv(tmp_path / "facts" / FACTS)
    assert list(facts.columns) == COLUMNS
    first = facts.iloc[0]
    assert first.orientation == "LAS"
    assert (first["columns"], first["rows"], first["slices"]) == SHAPE
    assert first.slice_spacing_mm == 2
    assert first.lesion_voxels == 6 * 10 * 3
    assert first.lesion_slices == 3
    assert first.lesion_share == pytest.approx(180 / 7200)
    assert first.lesion_ml == pytest.approx(0.36)
    assert first.lesion_hu_mean == pytest.approx(-100, abs=20)
    assert first.hu_p50 == pytest.approx(-700, abs=10)
    assert first.mask_labels == "0 1"


def rewrite(folder, case_id, write_case, scan=None, mask=None):
    """Replace the volumes of a case and its row of the table."""
    scan = np.random.default_rng(5).normal(-500, 300, SHAPE) if scan is None else scan
    mask = np.zeros(SHAPE) if mask is None else mask
    written = write_case(folder, case_id, scan, mask)
    write_cases(folder, [written if case.case_id == case_id else case for case in read_cases(folder)])


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


def test_a_critical_finding_refuses_the_cohort_after_the_report_is_written(small_cohort, run, tmp_path, write_case):
    rewrite(small_cohort, "case_2", write_case, scan=np.linspace(0, 100, 7200).reshape(SHAPE))
    truncate(small_cohort / "scans" / "case_4.nii.gz")
    refusal = run().refusal
    assert re.search(r"^validation of 6 cases failed: case case_4: unreadable: .*case_4\.nii\.gz", refusal)
    assert re.search(r"; case case_2: .*unknown.*HU.* \(.*HU\)$", refusal)
    assert "\n" not in refusal
    assert read_cases(tmp_path / "accepted") == []
    assert "case_2" in (tmp_path / "report").read_text()
    findings = pd.read_csv(tmp_path / "facts" / FINDINGS)
    assert set(findings[findings.severity == "critical"].case_id) == {"case_2", "case_4"}
    assert len(pd.read_csv(tmp_path / "facts" / FACTS)) == 6


def test_skip_drops_the_invalid_case(small_cohort, run, tmp_path):
    truncate(small_cohort / "scans" / "case_2.nii.gz")
    outcome = run(on_invalid="skip")
    assert outcome.dropped_ids == ["case_2"]
    assert [case.case_id for case in read_cases(tmp_path / "accepted")] == outcome.accepted_ids
    assert outcome.accepted_ids == ["case_0", "case_1", "case_3", "case_4", "case_5"]
    assert "Dropped cases: case_2" in (tmp_path / "report").read_text()


def test_skip_refuses_a_cohort_with_too_few_remaining_patients(small_cohort, run):
    for case_id in ("case_0", "case_1", "case_2", "case_3"):
        (small_cohort / "scans" / f"{case_id}.nii.gz").unlink()
    assert "2 patients are too few" in run(on_invalid="skip").refusal


def test_two_patients_are_too_few(small_cohort, run):
    cases = read_cases(small_cohort)
    write_cases(small_cohort, [replace(case, patient_id=str(index % 2)) for index, case in enumerate(cases)])
    assert re.search(r"failed: 2 patients are too few .*3\)$", run().refusal)


def test_an_empty_mask_is_a_warning(small_cohort, run, write_case):
    rewrite(small_cohort, "case_1", write_case)
    outcome = run()
    empty = [finding for finding in outcome.findings if finding.fact == "lesion_voxels"]
    assert [(one.severity, one.case_id, one.message) for one in empty] == [("warning", "case_1", "the mask is empty")]
    assert len(outcome.accepted_ids) == 6


def test_a_cohort_without_a_lesion_is_refused(small_cohort, run, write_case):
    for index in range(6):
        scan = np.random.default_rng(index).normal(-500, 300, SHAPE)
        rewrite(small_cohort, f"case_{index}", write_case, scan=scan)
    assert re.search(r"failed: no mask has a lesion \(.*MASKS.*LABEL", run().refusal)


def test_a_case_without_a_mask_is_refused(small_cohort, run):
    cases = read_cases(small_cohort)
    cases[3] = replace(cases[3], mask="", sha256_mask="")
    write_cases(small_cohort, cases)
    assert re.search(r"case case_3: .*has no mask", run().refusal)


def test_an_invalid_parameter_or_an_empty_table_is_refused(small_cohort, run):
    with pytest.raises(InputError, match=r"on_invalid.*'ignore'.*fail.*skip"):
        run(on_invalid="ignore")
    with pytest.raises(InputError, match=r"image_size.*\b0\b"):
        run(image_size=0)
    write_cases(small_cohort, [])
    with pytest.raises(CohortError, match=r"case table.*empty"):
        run()


def test_hard_cases_are_cases_of_the_cohort(run):
    assert run(hard_cases=["case_0", "case_5"]).refusal is None
    with pytest.raises(InputError, match=r"hard_cases: case_9, nobody: .*case_0"):
        run(hard_cases=["case_0", "nobody", "case_9"])


def test_the_report_is_self_contained_and_escapes_names(small_cohort, run, tmp_path):
    cases = read_cases(small_cohort)
    write_cases(small_cohort, [replace(case, site="<script>alert(1)</script>") for case in cases])
    run()
    page = (tmp_path / "report").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    assert re.findall(r"""(?:src|href)="(?!data:image/png;base64,)|url\(|@import|https?://""", page) == []
    assert "case_5" in page


def test_the_suite_is_written_with_self_contained_pages(run, tmp_path):
    run()
    suite = json.loads((tmp_path / "data_docs" / SUITE).read_text())
    assert {one["severity"] for one in suite["expectations"]} == {"critical", "warning"}
    assert all({"message", "remedy"} <= set(one["meta"]) for one in suite["expectations"])
    for name in (RESULT_PAGE, SUITE_PAGE):
        page = (tmp_path / "data_docs" / name).read_text()
        assert "lesion_voxels" in page
        assert re.findall(r"""<script|<link|<img|(?:src|href)=["'][^#]|@import|url\(|\son\w+=""", page) == []


def test_the_result_page_shows_the_values_found(small_cohort, run, tmp_path, write_case, caplog):
    labels = np.zeros(SHAPE)
    labels[4:30, 4:25] = 3
    rewrite(small_cohort, "case_1", write_case, mask=labels)
    assert re.search(r"case_1.* 0 3;", run().refusal)
    # The library logs tracebacks of values that it cannot render.
    assert [record for record in caplog.records if record.name.startswith("great_expectations")] == []
    page = (tmp_path / "data_docs" / RESULT_PAGE).read_text()
    row = re.search(r"maximum value must be.*?</tr>", page, re.DOTALL)[0]
    assert re.sub(r"<[^>]*>|\s", "", row).endswith("1.0.480")  # the limit, a stop, and the most lesion voxels of a case


def test_drift_from_a_reference_profile_is_a_warning(small_cohort, run, tmp_path, write_case):
    run()
    reference = Profile.read(tmp_path / "profile")
    same = run(reference=reference)
    assert same.summary()["drifted_facts"] == 0
    assert [drift.value for drift in same.drifts] == [0] * len(same.drifts)
    draw = np.random.default_rng(9)
    for index in range(6):
        mask = np.zeros(SHAPE)
        mask[4:30, 4 : 25 + index] = 1
        rewrite(small_cohort, f"case_{index}", write_case, scan=draw.normal(-400, 60, SHAPE), mask=mask)
    later = run(reference=reference)
    assert len(later.accepted_ids) == 6
    assert {"hu_distribution", "lesion_share"} <= {one.fact for one in later.findings if one.case_id is None}
    drifts = pd.read_csv(tmp_path / "facts" / DRIFT).set_index("fact")
    assert drifts.value.hu_distribution > 0.25
    assert "population stability index" in (tmp_path / "report").read_text()


def test_the_resize_audit_is_a_table_and_a_metric(run, tmp_path):
    summary = run(image_size=16).summary()
    audit = pd.read_csv(tmp_path / "facts" / RESIZE_AUDIT)
    assert audit.case_id.tolist() == [f"case_{index}" for index in range(6)]
    assert (audit.image_size == 16).all()
    assert 0.8 < summary["resize_round_trip_dice"] < 1  # cells of 2.5 pixels
    assert summary["resize_round_trip_dice"] == pytest.approx(audit.round_trip_dice.mean())


def test_the_number_of_workers_does_not_change_the_tables(run, tmp_path):
    tables = []
    for workers in (1, 3):
        run(workers=workers)
        tables.append([(tmp_path / "facts" / name).read_bytes() for name in (FACTS, FINDINGS, RESIZE_AUDIT)])
    assert tables[0] == tables[1]
