"""Rows 28 to 31 of the fault table: cohorts unfit for training, and damaged shards."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from kfp import dsl, local

from components.ct.cases import read_cases, read_skipped, write_cases
from components.ingest.component import ingest
from components.require_valid.component import require_valid
from components.runtime.errors import CohortError, InputError
from components.slice.component import slice as slice_step
from components.slice.shards import read_split
from components.slice.slicing import slice_cohort
from components.slice.split import SPLITS, require_patients_apart
from components.validate.component import validate
from components.validate.outcome import Finding, Severity, join_findings
from components.validate.validate import FINDINGS, Outputs
from components.validate.validate import validate as validate_cohort


@dsl.pipeline
def ingest_to_slice(source: str, masks: str) -> None:
    """The training pipeline up to the slice step."""
    cases = ingest(source=source, masks=masks).outputs["cases"]
    validated = validate(cases=cases, image_size=32)
    gate = require_valid(refusal=validated.outputs["refusal"])
    slice_step(cases=cases, accepted=validated.outputs["accepted"], image_size=32).after(gate)


@pytest.mark.slow
def test_row_28_a_critical_finding_ends_the_run_and_its_report_is_kept(small_cohort, write_case, tmp_path):
    write_case(small_cohort, "case_2", np.linspace(0, 100, 7200).reshape(40, 36, 5), np.ones((40, 36, 5)))
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"))
    with pytest.raises(RuntimeError, match="require-valid"):
        ingest_to_slice(source=str(small_cohort), masks="masks")
    (steps,) = (tmp_path / "root").iterdir()
    # validate succeeds: a cluster uploads no outputs of a failed step.
    assert "case_2" in (steps / "validate" / "report").read_text()
    assert "case_2" in (steps / "validate" / "facts" / FINDINGS).read_text()
    assert not (steps / "slice").exists()


def test_row_28_require_valid_exits_with_the_refusal():
    with pytest.raises(SystemExit, match=r"^error: validation of 6 cases failed$"):
        require_valid.python_func(refusal="validation of 6 cases failed")
    require_valid.python_func(refusal="")


def test_row_28_slice_refuses_the_cohort_without_require_valid(small_cohort, tmp_path):
    (small_cohort / "scans" / "case_2.nii.gz").unlink()
    outcome = validate_cohort(small_cohort, Outputs.inside(tmp_path), image_size=32)
    assert outcome.refusal.startswith("validation of 6 cases failed: case case_2: ")
    assert "case_2" in (tmp_path / "report").read_text()
    with pytest.raises(CohortError, match="validate accepted no case"):
        slice_cohort(small_cohort, tmp_path / "accepted", tmp_path / "shards", image_size=32)
    assert not (tmp_path / "shards").exists()


def test_row_28_cases_that_are_left_out_are_named_with_the_reason(small_cohort, write_case, tmp_path, caplog):
    (small_cohort / "scans" / "case_2.nii.gz").unlink()
    labels = np.zeros((40, 36, 5))
    labels[0, 0, :2] = 3, 7
    written = write_case(small_cohort, "case_4", np.random.default_rng(1).normal(-500, 300, labels.shape), labels)
    write_cases(small_cohort, [written if case.case_id == "case_4" else case for case in read_cases(small_cohort)])
    outcome = validate_cohort(small_cohort, Outputs.inside(tmp_path), image_size=32, on_invalid="skip")
    assert outcome.refusal is None
    unreadable, other_labels = read_skipped(tmp_path / "accepted")
    assert unreadable.startswith("case case_2: unreadable: ")
    assert re.match(r"case case_4: the mask has values 0 3 7; expected 0 and 1 \(.*LABEL", other_labels)
    assert [line for line in caplog.messages if line.startswith("skipped")] == [
        f"skipped: {unreadable}",
        f"skipped: {other_labels}",
    ]


def test_row_28_identical_masks_are_a_warning_unless_the_scans_are_identical_too(small_cohort, tmp_path):
    cases = read_cases(small_cohort)
    same_mask = [replace(case, mask=cases[0].mask, sha256_mask=cases[0].sha256_mask) for case in cases]
    write_cases(small_cohort, same_mask)
    outcome = validate_cohort(small_cohort, Outputs.inside(tmp_path / "masks"), image_size=32)
    assert len(outcome.accepted_ids) == 6
    warnings = [one.case_id for one in outcome.findings if one.fact == "mask_duplicate_of"]
    assert warnings == [case.case_id for case in cases[1:]]
    write_cases(small_cohort, [*cases, *(replace(case, case_id=f"{case.case_id}x") for case in cases)])
    outcome = validate_cohort(small_cohort, Outputs.inside(tmp_path / "both"), image_size=32, on_invalid="skip")
    assert outcome.dropped_ids == [f"{case.case_id}x" for case in cases]


def test_findings_on_the_cohort_with_one_message_name_no_case():
    findings = [Finding(Severity.CRITICAL, None, "a", "m", "r"), Finding(Severity.CRITICAL, None, "b", "m", "r")]
    assert join_findings(findings) == "m (r)"


def test_row_29_a_threshold_that_no_slice_meets_is_reported(small_cohort, tmp_path):
    with pytest.raises(CohortError, match=r"999 lesion pixels.*min_lesion_pixels"):
        slice_cohort(small_cohort, small_cohort, tmp_path / "shards", image_size=32, min_lesion_pixels=999)
    assert not (tmp_path / "shards").exists()


def test_row_30_a_patient_in_two_splits_is_reported_and_moved(small_cohort, tmp_path):
    slice_cohort(small_cohort, small_cohort, tmp_path / "shards", image_size=32)
    split = json.loads((tmp_path / "shards" / "split.json").read_text())
    test, train = split["test"][0], split["train"][0]
    # Two of the cases turn out to be one patient.
    cases = [
        replace(case, patient_id="one_patient") if case.case_id in (test, train) else case
        for case in read_cases(small_cohort)
    ]
    with pytest.raises(CohortError, match=r"one_patient in test and train"):
        require_patients_apart(cases, {name: split[name] for name in SPLITS})
    # With the corrected table, both are in one split.
    write_cases(small_cohort, cases)
    parts = slice_cohort(small_cohort, small_cohort, tmp_path / "again", image_size=32).cases
    assert len({name for name, ids in parts.items() if {test, train} & set(ids)}) == 1


@pytest.mark.parametrize("damage", ["truncated", "one bit flipped", "no record"])
def test_row_31_a_damaged_shard_is_reported(small_cohort, tmp_path, damage):
    slice_cohort(small_cohort, small_cohort, tmp_path / "shards", image_size=32)
    shard = sorted((tmp_path / "shards" / "train").glob("*.tfrecord"))[-1]
    content = bytearray(shard.read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "one bit flipped":
        content[len(content) // 2] ^= 4
    else:
        content = bytearray(b"not a record")
    shard.write_bytes(content)
    with pytest.raises(InputError, match=rf"{shard.name}: .*TFRecord.*slice"):
        list(read_split(tmp_path / "shards", "train", 32))
