"""Rows 12 to 27 of the fault table: volumes that are damaged, impossible, mismatched or identifiable."""

import gzip
import itertools
import re
import struct
import tracemalloc
import zlib

import nibabel as nib
import numpy as np
import pytest

from components.ct.cases import read_cases
from components.ct.intensity import read_ct
from components.ct.metrics import dice
from components.ct.volume import read_volume, write_on_file_grid
from components.ingest.ingest import ingest
from components.runtime.errors import CohortError, VolumeError
from components.validate.validate import Outputs, validate
from tests.ingest.conftest import SHAPE, mask_of

SCAN = np.random.default_rng(3).integers(-1000, 400, SHAPE).astype(np.int16)
AFFINE = np.diag([-1.0, 1, 3, 1])
# Byte offsets in a NIfTI-1 header (nifti1.h)
DIM, DATATYPE, PIXDIM, SLOPE, SFORM = 40, 70, 76, 112, 280


def nifti_bytes(voxels=SCAN, affine=AFFINE):
    return bytearray(nib.Nifti1Image(voxels, affine).to_bytes())


def write(path, content):
    path.write_bytes(gzip.compress(bytes(content), mtime=0) if path.name.endswith(".gz") else bytes(content))
    return path


def read_error(path):
    """Return the error of reading a file as a volume; reading it as a scan must fail, too."""
    with pytest.raises(VolumeError) as error:
        read_volume(path)
    with pytest.raises(VolumeError):
        read_ct(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def patch_header(offset, form, *values):
    content = nifti_bytes()
    struct.pack_into(f"<{form}", content, offset, *values)
    return content


def test_row_12_any_flipped_bit_in_the_voxels_is_detected(tmp_path):
    content = bytearray(gzip.compress(nifti_bytes(), mtime=0))
    for at in range(20, len(content), 7):
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 8
        path = tmp_path / "a.nii.gz"
        path.write_bytes(damaged)
        read_error(path)


def test_row_12_a_wrong_checksum_is_detected(tmp_path):
    content = bytearray(gzip.compress(nifti_bytes(), mtime=0))
    content[-8] ^= 1
    (tmp_path / "a.nii.gz").write_bytes(content)
    assert "gzip" in read_error(tmp_path / "a.nii.gz")


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.nii.gz", gzip.compress(nifti_bytes())[:-lost]) for lost in (1, 4, 8, 9, 100)]
    + [("a.nii", nifti_bytes()[:size]) for size in (0, 3, 300, 352, 400)],
)
def test_row_13_a_truncated_file_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    read_error(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_row_14_a_small_file_that_declares_a_huge_volume_is_refused_without_allocation(tmp_path, name):
    content = patch_header(DIM, "4h", 3, 4000, 4000, 1000)
    path = write(tmp_path / name, content + bytes(2048 - len(content) % 2048))
    tracemalloc.start()
    message = read_error(path)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "32,000.0 MB" in message
    assert peak_bytes < 5e6


def non_finite_voxels(value):
    voxels = SCAN.astype(np.float32)
    voxels.flat[:3] = value
    return nifti_bytes(voxels)


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        *((patch_header(DIM, "4h", 3, *dims), str(list(dims))) for dims in ((0, 5, 4), (6, -5, 4), (6, 5, 0))),
        *((patch_header(PIXDIM + 8, "f", value), "voxel spacing") for value in (np.nan, np.inf, 0.0, -1.0)),
        *((patch_header(SFORM, "f", value), "affine") for value in (np.nan, np.inf)),
        *((non_finite_voxels(value), "3 voxels") for value in (np.nan, np.inf, -np.inf)),
        *((patch_header(SLOPE, "2f", *pair), "finite") for pair in ((1, np.nan), (2, np.inf), (-np.inf, 0))),
        (nifti_bytes(np.zeros((6, 5, 4, 2), np.int16)), "[6, 5, 4, 2]"),
        (nifti_bytes(np.zeros((6, 5), np.int16)), "[6, 5]"),
        (nifti_bytes(np.zeros(SHAPE, [(c, "u1") for c in "RGB"])), "RGB voxels"),
        (nifti_bytes(np.zeros(SHAPE, np.complex64)), "complex64 voxels"),
        (patch_header(DATATYPE, "h", 999), "type 999 voxels"),
    ],
    ids=["row_15"] * 3 + ["row_16"] * 6 + ["row_17"] * 3 + ["row_18"] * 3 + ["row_19"] * 5,
)
def test_an_impossible_volume_is_refused(tmp_path, content, fact):
    assert fact in read_error(write(tmp_path / "a.nii.gz", content))


@pytest.fixture(scope="module")
def dirty(tmp_path_factory):
    """Validate a dirty cohort with `skip`; return the critical message and the accepted row of each case."""
    folder = tmp_path_factory.mktemp("dirty")
    scans = [np.random.default_rng(seed).integers(-1000, 400, SHAPE).astype(np.int16) for seed in range(10)]
    masks = [mask_of(*[0] * index, 1, 1) for index in range(len(scans))]
    affines = dict.fromkeys(range(len(scans)), AFFINE)
    masks[0] = masks[0][:, :, :3]  # row 20, shape
    affines[1] = np.array([[-1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 3, 40], [0, 0, 0, 1]])  # row 20, affine
    masks[2] = mask_of(0.5, 1, dtype="float32")  # row 22
    masks[3] = mask_of(1, 2, 7)  # row 22
    masks[4] = mask_of()  # row 25
    scans[5] = np.random.default_rng(9).integers(0, 256, SHAPE).astype(np.uint8)  # row 23, as published
    scans[6] = np.random.default_rng(9).integers(0, 100, SHAPE).astype(np.uint8)  # row 23, another range
    masks[7] = masks[7] * np.float32(0.9999999)  # accepted: the rounding of a scaling
    scans[8] = scans[7]  # row 24
    for index, (scan, mask) in enumerate(zip(scans, masks, strict=True)):
        for kind, voxels, affine in (("scans", scan, AFFINE), ("infection_masks", mask, affines[index])):
            (folder / "in" / kind).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(voxels, affine), folder / "in" / kind / f"case_{index}.nii.gz")
    ingest(str(folder / "in"), folder / "cases")
    outcome = validate(folder / "cases", Outputs.inside(folder), on_invalid="skip", workers=1)
    messages = {finding.case_id: finding.message for finding in outcome.findings if finding.is_critical}
    return messages, {case.case_id: case for case in read_cases(folder / "accepted")}


def test_rows_20_to_25_invalid_cases_are_dropped_and_the_others_accepted(dirty):
    messages, accepted = dirty
    assert messages.keys() == {"case_0", "case_1", "case_2", "case_3", "case_6", "case_8"}
    assert list(accepted) == ["case_4", "case_5", "case_7", "case_9"]
    assert accepted["case_5"].intensity == "windowed"


@pytest.mark.parametrize(
    ("case_id", "facts"),
    [
        pytest.param("case_0", "grids: scan 6×5×4 LAS .*mask 6×5×3 LAS", id="row_20-shape"),
        pytest.param("case_1", r"scan 6×5×4 .*0 0 3 0\], mask 6×5×4 .*0 0 3 40\]", id="row_20-position"),
        pytest.param("case_2", "values 0 0.5 1;", id="row_22-fraction"),
        pytest.param("case_3", "values 0 1 2 7;", id="row_22-label"),
        pytest.param("case_6", "unknown", id="row_23"),
        pytest.param("case_8", "scan is identical .*case_7", id="row_24"),
    ],
)
def test_a_critical_finding_contains_its_facts(dirty, case_id, facts):
    assert re.search(facts, dirty[0][case_id])


CODES = ["".join(flips) for axes in itertools.permutations(("LR", "PA", "IS")) for flips in itertools.product(*axes)]


@pytest.mark.parametrize("oblique", [False, True], ids=["straight", "oblique"])
@pytest.mark.parametrize("code", CODES)
def test_row_21_a_mask_is_written_on_the_grid_of_the_scan_in_all_48_orientations(tmp_path, code, oblique):
    to_code = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(code))
    )
    canonical = nib.Nifti1Image(SCAN, np.diag([0.7, 0.8, 2.5, 1]))
    stored = canonical.as_reoriented(to_code)
    affine = stored.affine
    if oblique:
        turn = np.eye(4)
        turn[:2, :2] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
        affine = turn @ affine
    nib.save(nib.Nifti1Image(np.asanyarray(stored.dataobj), affine), tmp_path / "scan.nii.gz")
    volume = read_volume(tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(volume.voxels, SCAN)
    write_on_file_grid(tmp_path / "mask.nii.gz", (volume.voxels > 0).astype(np.uint8), volume.file_grid)
    mask = nib.load(tmp_path / "mask.nii.gz")
    assert nib.aff2axcodes(mask.affine) == tuple(code)
    np.testing.assert_array_equal(np.asanyarray(mask.dataobj), np.asanyarray(stored.dataobj) > 0)
    np.testing.assert_allclose(mask.affine, affine, atol=1e-5)


def test_row_24_unpaired_files_fail_or_are_skipped(cohort, tmp_path, save, caplog):
    save(cohort / "scans" / "lonely.nii.gz")
    save(cohort / "infection_masks" / "orphan.nii.gz", mask_of(1))
    save(cohort / "scans" / "case_0_ct.nii")
    problems = [
        "case_0.nii.gz and case_0_ct.nii are two scans of one case; keep one, or rename one",
        "scan lonely.nii.gz has no mask; expected one named lonely.nii.gz",
        "mask orphan.nii.gz has no scan; expected one named orphan.nii.gz",
    ]
    with pytest.raises(CohortError) as error:
        ingest(str(cohort), tmp_path / "out")
    assert str(error.value) == f"{cohort}: 3 problems: {'; '.join(problems)}"
    cases = ingest(str(cohort), tmp_path / "out", on_invalid="skip")
    assert [case.case_id for case in cases] == ["case_0", "case_1", "case_2", "case_3"]
    assert (tmp_path / "out" / "skipped.txt").read_text().splitlines() == problems
    assert {f"skipped: {problem}" for problem in problems} <= {*caplog.messages}


def test_row_25_the_dice_of_two_empty_masks_is_1_and_of_one_is_0():
    empty, lesion = np.zeros(SHAPE, bool), mask_of(1) > 0
    assert dice(empty, empty) == 1
    assert dice(empty, lesion) == dice(lesion, empty) == 0


PERSON = b"Meier^Hans"


def personal_bytes():
    """Return a volume with a person's name in every text field and extension of its header."""
    image = nib.Nifti1Image(SCAN, AFFINE)
    for field in ("descrip", "aux_file", "db_name", "intent_name"):
        image.header[field] = PERSON
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", PERSON))
    return image.to_bytes()


def test_row_26_outputs_and_logs_contain_no_personal_data_of_headers(cohort, tmp_path, capfd, caplog):
    for name in ("scans/case_0.nii.gz", "infection_masks/case_1.nii.gz"):
        write(cohort / name, personal_bytes())
    damaged = gzip.compress(personal_bytes())[:-1]
    (cohort / "scans" / "case_2.nii.gz").write_bytes(damaged)
    ingest(str(cohort), tmp_path / "out", on_invalid="skip")
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            content = zlib.decompress(content, wbits=31) if path.suffix == ".gz" else content
            assert PERSON not in content
            assert b"Meier" not in content
    assert "Meier" not in caplog.text + "".join(capfd.readouterr())


def test_row_27_pseudonyms_replace_file_names_in_outputs_and_logs(tmp_path, save, capfd, caplog):
    for name in ("Meier_Hans", "Doe_Jane"):
        save(tmp_path / "in" / "scans" / f"{name}.nii.gz")
        save(tmp_path / "in" / "infection_masks" / f"{name}.nii.gz", mask_of(1))
    save(tmp_path / "in" / "scans" / "Weiss_Eva.nii.gz")
    (tmp_path / "key").write_text("0123456789abcdef")
    cases = ingest(str(tmp_path / "in"), tmp_path / "out", pseudonym_key=tmp_path / "key", on_invalid="skip")
    assert len(cases) == 2
    everything = caplog.text + "".join(capfd.readouterr())
    for path in (tmp_path / "out").rglob("*"):
        everything += str(path.relative_to(tmp_path)) + (path.read_text("latin-1") if path.is_file() else "")
    assert not [name for name in ("Meier", "Hans", "Doe", "Jane", "Weiss", "Eva") if name in everything]
