"""Cohort profiles and drift."""

import numpy as np
import pandas as pd
import pytest

from components.runtime.errors import InputError
from components.validate.facts import COLUMNS
from components.validate.histogram import HuHistogram
from components.validate.profile import COMPARED, HU_EDGES, Profile, compare, stability_index
from components.validate.reference import read_reference


def cohort(seed: int, hu_offset: float = 0, spacing_mm: float = 1.5, burden: float = 1) -> Profile:
    draw = np.random.default_rng(seed)
    facts = pd.DataFrame({name: draw.normal(100, 10, 40) for name in COMPARED}).reindex(columns=COLUMNS)
    facts["slice_spacing_mm"] = spacing_mm
    facts["lesion_ml"] *= burden
    facts["lung_ml"] = None
    scans = [draw.normal(-600 + hu_offset, 250, (10, 20, 25)).astype(np.int16) for _ in range(40)]
    return Profile.of(facts, [HuHistogram.of(scan).shares(HU_EDGES) for scan in scans])


def test_a_cohort_like_the_reference_has_not_drifted():
    drifts = compare(cohort(0), cohort(1))
    assert [drift.fact for drift in drifts if drift.is_large] == []
    assert drifts[0].value < 0.01
    assert "lung_ml" not in [drift.fact for drift in drifts]  # neither cohort has it


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"hu_offset": 200}, "hu_distribution"),
        ({"spacing_mm": 6.0}, "slice_spacing_mm"),
        ({"burden": 2}, "lesion_ml"),
    ],
)
def test_each_kind_of_drift_is_told_by_its_own_number(change, fact):
    drifts = compare(cohort(0), cohort(1, **change))
    assert [drift.fact for drift in drifts if drift.is_large] == [fact]


def test_the_shift_is_in_interquartile_ranges_of_the_reference():
    before, now = cohort(0), cohort(0, burden=2)
    (drift,) = (drift for drift in compare(before, now) if drift.fact == "lesion_ml")
    quantiles = before.facts["lesion_ml"]
    assert drift.value == pytest.approx(quantiles["p50"] / (quantiles["p75"] - quantiles["p25"]))
    assert f"{quantiles['p50']:.4g}" in drift.reference


def test_the_stability_index_is_that_of_its_formula():
    reference, found = np.full(10, 0.1), np.array([0.2, *[0.1] * 8, 0.0001])
    expected = 0.1 * np.log(2) + (0.0001 - 0.1) * np.log(0.001)
    assert stability_index(reference, found) == pytest.approx(expected)
    assert stability_index(reference, reference) == 0


def test_a_written_profile_reads_back(tmp_path):
    profile = cohort(0)
    profile.write(tmp_path)
    assert read_reference(str(tmp_path)) == profile


def test_a_folder_without_a_profile_is_named(tmp_path):
    with pytest.raises(InputError, match=r"profile\.json: no cohort profile .*give the profile that validate wrote"):
        read_reference(str(tmp_path))


def test_the_histogram_counts_volumes_that_run_backwards_alike():
    hu = np.random.default_rng(0).integers(-1024, 3000, (7, 8, 9)).astype(np.int16)
    turned = np.asfortranarray(hu)[::-1, :, ::-1]
    found = HuHistogram.of(turned)
    assert (found.counts == HuHistogram.of(hu).counts).all()
    assert found.percentile(50) == np.sort(hu, axis=None)[len(hu.ravel()) // 2 - 1]
    assert found.mean == pytest.approx(hu.mean())
    assert found.deviation == pytest.approx(hu.std())
    assert found.shares(HU_EDGES)[1:-1].tolist() == pytest.approx(
        (np.histogram(hu, [*HU_EDGES])[0] - [*np.zeros(len(HU_EDGES) - 2), (hu == HU_EDGES[-1]).sum()]) / hu.size
    )
