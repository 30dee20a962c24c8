"""Slicing of cohorts to shards."""

import subprocess
import sys

import numpy as np
import pytest

from components.ct.cases import read_cases, write_cases
from components.ct.grid import axial_slices, fit_hu, fit_mask
from components.ct.volume import read_volume
from components.runtime.errors import InputError
from components.slice.shards import read_split
from components.slice.slicing import slice_cohort
from components.slice.split import SPLITS, Split
from components.train.recipe import Recipe
from components.train.training import train


def test_the_shards_have_every_slice_of_every_case_once(small_cohort, tmp_path):
    output = tmp_path / "shards"
    slice_cohort(small_cohort, small_cohort, output, image_size=32)
    cases = {case.case_id: case for case in read_cases(small_cohort)}
    split = Split.read(output)
    seen = []
    for name in SPLITS:
        for record in read_split(output, name, 32):
            case = cases[record["case_id"].decode()]
            assert case.case_id in split.cases[name]
            index = record["slice_index"]
            scan = axial_slices(read_volume(small_cohort / case.scan).voxels)[index : index + 1]
            mask = axial_slices(read_volume(small_cohort / case.mask).voxels)[index : index + 1]
            np.testing.assert_array_equal(record["slice_hu"], fit_hu(scan, 32)[0])
            np.testing.assert_array_equal(record["lesion"], fit_mask(mask, 32)[0])
            seen.append((case.case_id, int(index)))
    assert sorted(seen) == [(f"case_{case}", index) for case in range(6) for index in range(5)]


def test_the_shards_are_independent_of_the_number_of_workers(small_cohort, tmp_path):
    for workers in (1, 3):
        slice_cohort(small_cohort, small_cohort, tmp_path / str(workers), image_size=32, workers=workers)
    files = [path.relative_to(tmp_path / "1") for path in sorted((tmp_path / "1").rglob("*")) if path.is_file()]
    assert len(files) == 7
    assert all((tmp_path / "1" / file).read_bytes() == (tmp_path / "3" / file).read_bytes() for file in files)


SLICE = """
import resource, sys
from pathlib import Path
from components.runtime.step import step_process
from components.slice.slicing import slice_cohort
cohort, output, limit = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    with step_process():
        slice_cohort(cohort, cohort, output, image_size=32)
finally:
    print("left:", list(output.parent.iterdir()))
"""


@pytest.mark.parametrize("fault", ["No space left on device", "File too large"])
def test_a_full_disk_is_one_line_and_leaves_nothing(small_cohort, tmp_path, fault):
    disk = tmp_path / "a disk"
    disk.mkdir()
    command = [sys.executable, "-c", SLICE, small_cohort, disk / "shards", "4000" if fault == "File too large" else "0"]
    if command[-1] == "0":
        command = ["unshare", "-rm", "sh", "-c", f'mount -t tmpfs -o size=8k none "{disk}" && exec "$0" "$@"', *command]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120)
    if "unshare failed" in done.stderr:
        pytest.skip("user namespaces are not available")
    assert done.stderr.splitlines()[-1].startswith(f"error: {disk / 'shards'}: cannot be written ({fault})")
    assert done.returncode == 1
    assert done.stdout.endswith("left: []\n")


def test_only_accepted_cases_are_sliced(small_cohort, tmp_path):
    write_cases(tmp_path / "accepted", read_cases(small_cohort)[:4])
    split = slice_cohort(small_cohort, tmp_path / "accepted", tmp_path / "shards", image_size=32)
    assert sorted(case_id for name in SPLITS for case_id in split.cases[name]) == [f"case_{n}" for n in range(4)]


def test_slices_with_too_few_lesion_pixels_are_excluded(small_cohort, tmp_path):
    slice_cohort(small_cohort, small_cohort, tmp_path / "shards", image_size=32, min_lesion_pixels=1)
    indices = {int(record["slice_index"]) for name in SPLITS for record in read_split(tmp_path / "shards", name, 32)}
    assert indices == {1, 2, 3}


@pytest.mark.parametrize("image_size", [0, 8, 100])
def test_the_image_size_is_a_multiple_of_16(small_cohort, tmp_path, image_size):
    with pytest.raises(InputError, match=f"image_size is {image_size};.* 16"):
        slice_cohort(small_cohort, small_cohort, tmp_path / "shards", image_size=image_size)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_numpy_does_not_take_is_refused_by_slice_and_train(small_cohort, tmp_path, seed):
    for run in (
        lambda: slice_cohort(small_cohort, small_cohort, tmp_path / "shards", image_size=32, seed=seed),
        lambda: train(tmp_path / "shards", tmp_path / "model", recipe=Recipe(), seed=seed),
    ):
        with pytest.raises(InputError, match=f"seed is {seed}; expected .* 0 to {2**32 - 1}"):
            run()


def test_a_scan_changed_since_ingest_is_an_error(small_cohort, tmp_path):
    path = small_cohort / "scans" / "case_3.nii.gz"
    path.write_bytes((small_cohort / "scans" / "case_2.nii.gz").read_bytes())
    with pytest.raises(InputError, match=r"case case_3: .*case_3.nii.gz has sha256"):
        slice_cohort(small_cohort, small_cohort, tmp_path / "shards", image_size=32)
