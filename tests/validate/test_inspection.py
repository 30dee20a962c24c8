"""The inspection of a case: facts, resize audit and picture."""

import io
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from components.ct.grid import axial_slices
from components.ct.lesions import Lesions
from components.validate.anatomy import Anatomy
from components.validate.facts import CaseFacts, fact_table
from components.validate.inspection import inspect_case
from components.validate.resize_audit import audit_resize
from components.validate.suite import check_facts

SHAPE = (100, 80, 60)  # of 3 mm voxels: 300 mm wide, 240 mm deep, 180 mm high
AFFINE = np.diag([-3.0, 3, 3, 1])


def chest() -> np.ndarray:
    """Return a box of tissue in air with two lungs of 20×40×40 voxels."""
    scan = np.full(SHAPE, -1000.0)
    scan[10:90, 10:70] = 40
    for left in (20, 60):
        scan[left : left + 20, 20:60, 10:50] = -850
    return scan


def lesion(*where: slice) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[where] = 1
    return mask


def test_the_lungs_are_the_air_inside_the_body(tmp_path, write_case):
    case = write_case(tmp_path, "a", chest(), lesion(slice(22, 26), slice(22, 26), slice(20, 22)), affine=AFFINE)
    facts = inspect_case(tmp_path, case, 32).facts
    assert facts.lung_ml == pytest.approx(2 * 20 * 40 * 40 * 0.027)
    assert facts.empty_slices == 0
    assert facts.lesion_outside_share == 0
    assert facts.oblique_degrees == pytest.approx(0)
    assert (facts.hu_min, facts.hu_max) == (-1000, 40)
    assert facts.lesion_ml == pytest.approx(32 * 0.027)
    assert facts.largest_lesion_ml == facts.lesion_ml


def test_the_share_of_a_lesion_outside_the_body(tmp_path, write_case):
    mask = lesion(slice(0, 20), slice(30, 40), slice(20, 30))  # half of it in air
    facts = inspect_case(tmp_path, write_case(tmp_path, "a", chest(), mask, affine=AFFINE), 32).facts
    assert facts.lesion_outside_share == pytest.approx(0.5)


def test_slices_without_tissue_are_counted():
    slices = axial_slices(chest())
    slices[:7] = -1000
    assert Anatomy.from_slices(slices.astype(np.int16), 0.027).empty_slices == 7


def test_a_table_is_not_part_of_the_body():
    scan = chest()
    scan[:, 2:4] = 100
    body = Anatomy.from_slices(axial_slices(scan).astype(np.int16), 0.027).body
    assert body is not None
    assert body.any(axis=(0, 2)).sum() == 60  # rows of the body alone


def test_a_cropped_scan_has_no_body():
    anatomy = Anatomy.from_slices(axial_slices(chest()[20:80, 20:60]).astype(np.int16), 0.027)
    assert anatomy.body is None
    assert anatomy.lung_ml is None
    assert anatomy.share_outside(np.ones((60, 40, 60))) is None


def test_a_lesion_smaller_than_half_a_cell_is_lost_and_a_larger_one_is_kept():
    mask = np.zeros((2, 64, 64), np.uint8)
    mask[0, 16:32, 16:32] = 1  # 4×4 cells of 4×4 pixels
    mask[1, 40, 40] = 1  # a sixteenth of a cell
    audit = audit_resize("a", mask, Lesions.from_mask(mask), 16)
    assert audit is not None
    assert (audit.lesions, audit.lesions_lost, audit.lesion_voxels) == (2, 1, 257)
    # Interpolation removes one pixel at each corner of the square, and adds none.
    assert audit.voxels_lost == 1 + 4
    assert audit.dice_at_half == pytest.approx(2 * 252 / (252 + 257))
    assert audit.round_trip_dice >= audit.dice_at_half


def test_a_grid_of_the_size_of_the_scan_loses_nothing():
    mask = (np.random.default_rng(0).random((3, 32, 32)) < 0.2).astype(np.uint8)
    audit = audit_resize("a", mask, Lesions.from_mask(mask), 32)
    assert audit is not None
    assert (audit.lesions_lost, audit.voxels_lost, audit.round_trip_dice) == (0, 0, 1)


def test_an_empty_mask_has_no_resize_audit():
    assert audit_resize("a", np.zeros((2, 8, 8)), Lesions.from_mask(np.zeros((2, 8, 8))), 16) is None


def outline(png: bytes) -> np.ndarray:
    """Return where a picture is colored."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    return np.ptp(pixels, axis=2) > 0


def test_the_picture_outlines_the_mask_at_its_place(tmp_path, write_case):
    mask = lesion(slice(62, 70), slice(40, 56), slice(20, 25))
    right, wrong = (
        inspect_case(tmp_path, write_case(tmp_path, name, chest(), one, affine=AFFINE), 32).picture
        for name, one in (("right", mask), ("flipped", mask[::-1]))
    )
    assert right is not None
    assert wrong is not None
    height, width = outline(right).shape
    assert width / height == pytest.approx(300 / 240, abs=0.02)  # the patient's proportions
    # The patient's left is on the right of the picture, anterior is at the top.
    rows, columns = np.nonzero(outline(right))
    assert columns.max() < width / 2 or columns.min() > width / 2
    assert rows.max() < height * 0.6
    np.testing.assert_array_equal(outline(wrong)[:, ::-1].sum(), outline(right).sum())
    assert not (outline(wrong) & outline(right)).any()


def test_a_finding_shows_how_its_value_differs_from_the_limits():
    expected = {
        ("lesion_outside_share", 1.0): "100 % of the lesion is outside the body; expected at most 5 %",
        ("lesion_outside_share", 0.05001): "5.001 % of the lesion is outside the body; expected at most 5 %",
        ("air_share", 0.9 + 1e-9): "90.0000001 % of all voxels are air; expected at most 90 %",
        ("width_mm", 99.99999): "the scan is 99.99999 mm wide; expected 100 to 700",
        ("lesion_count", 501.0): "the mask has 501 separate lesions; expected at most 500",
        ("lesion_voxels", 0.0): "the mask is empty",
        ("geometry_notes", "tilted"): "tilted",
    }
    cases = {f"case_{index}": dict([fact]) for index, fact in enumerate(expected)}
    facts = pd.DataFrame(
        [
            asdict(CaseFacts(**{"case_id": case, "patient_id": case, "site": "x", "lesion_voxels": 1} | fact))
            for case, fact in cases.items()
        ]
    )
    findings = {finding.case_id: finding.message for finding in check_facts(facts).findings}
    assert findings == dict(zip(cases, expected.values(), strict=True))


def test_a_wrong_scale_and_a_doubtful_grid_are_facts(tmp_path, write_case):
    mask = lesion(slice(22, 26), slice(22, 26), slice(20, 22))
    scan = np.where(chest() == -1000, -2000, chest() + 1024)
    facts = inspect_case(tmp_path, write_case(tmp_path, "a", scan, mask, affine=np.diag([-3, 3, 11, 1])), 32).facts
    assert facts.intensity == "hu"
    assert facts.scale_problem is not None
    assert "above 500 HU" in facts.scale_problem
    assert facts.geometry_notes == "slices are 11 mm apart; expected 0.2 to 10 mm; check the spacing"


def test_the_fact_table_compares_cases(tmp_path, write_case):
    mask = lesion(slice(22, 26), slice(22, 26), slice(20, 22))
    cases = [write_case(tmp_path, name, chest(), mask, patient_id="p") for name in "ab"]
    cases.append(replace(cases[0], case_id="c", patient_id="q", sha256_scan="other", sha256_mask="other"))
    facts = [
        CaseFacts(case.case_id, case.patient_id, "test", lung_ml=ml)
        for case, ml in zip(cases, (2000, 3000, 1), strict=True)
    ]
    table = fact_table(facts, cases).set_index("case_id")
    assert table.duplicate_of.fillna("").tolist() == ["", "a", ""]
    assert table.mask_duplicate_of.fillna("").tolist() == ["", "a", ""]
    assert table.patient_scans.tolist() == [2, 2, 1]
    assert table.patient_lung_ratio.tolist()[:2] == [1.5, 1.5]
