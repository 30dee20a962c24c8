"""Cohort profiles and drift."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from components.runtime.errors import InputError
from components.validate.facts import COLUMNS
from components.validate.histogram import HuHistogram
from components.validate.outcome import Outcome
from components.validate.profile import COMPARED_FACTS, HU_EDGES, Profile, compare_profiles, stability_index


def make_profile(seed: int, hu_offset: float = 0, spacing_mm: float = 1.5, burden: float = 1) -> Profile:
    draw = np.random.default_rng(seed)
    facts = pd.DataFrame({name: draw.normal(100, 10, 40) for name in COMPARED_FACTS}).reindex(columns=COLUMNS)
    facts["slice_spacing_mm"] = spacing_mm
    facts["lesion_ml"] *= burden
    facts["lung_ml"] = None
    scans = [draw.normal(-600 + hu_offset, 250, (10, 20, 25)).astype(np.int16) for _ in range(40)]
    return Profile.from_facts(facts, [HuHistogram.from_voxels(scan).bin_shares(HU_EDGES) for scan in scans])


def test_a_similar_cohort_has_no_drift():
    drifts = compare_profiles(reference=make_profile(0), observed=make_profile(1))
    assert [drift.fact for drift in drifts if drift.exceeds_limit] == []
    assert drifts[0].value < 0.01
    assert "lung_ml" not in [drift.fact for drift in drifts]  # neither cohort has it


def test_a_cohort_without_known_intensities_has_no_drift_of_hu():
    reference = make_profile(0)
    unknown = replace(make_profile(1), hu_shares=[0.0] * (len(HU_EDGES) + 1))
    drifts = compare_profiles(reference=reference, observed=unknown)
    assert drifts
    assert "hu_distribution" not in {drift.fact for drift in drifts}
    assert "hu_stability_index" not in Outcome([], [], [], None, drifts, []).summary()


@pytest.mark.parametrize(
    ("change", "fact"),
    [({"hu_offset": 200}, "hu_distribution"), ({"spacing_mm": 6.0}, "slice_spacing_mm"), ({"burden": 2}, "lesion_ml")],
)
def test_each_kind_of_drift_is_a_finding_on_its_own_fact(change, fact):
    drifts = compare_profiles(reference=make_profile(0), observed=make_profile(1, **change))
    assert [drift.fact for drift in drifts if drift.exceeds_limit] == [fact]


def test_the_shift_is_measured_in_interquartile_ranges_of_the_reference():
    before, now = make_profile(0), make_profile(0, burden=2)
    (drift,) = (drift for drift in compare_profiles(reference=before, observed=now) if drift.fact == "lesion_ml")
    quantiles = before.facts["lesion_ml"]
    assert drift.value == pytest.approx(quantiles["p50"] / (quantiles["p75"] - quantiles["p25"]))
    assert f"{quantiles['p50']:.4g}" in drift.reference


def test_the_stability_index_follows_its_formula():
    reference, observed = np.full(10, 0.1), np.array([0.2, *[0.1] * 8, 0.0001])
    expected = 0.1 * np.log(2) + (0.0001 - 0.1) * np.log(0.001)
    assert stability_index(reference=reference, observed=observed) == pytest.approx(expected)
    assert stability_index(reference=reference, observed=reference) == 0


def test_a_profile_can_be_written_and_read(tmp_path):
    profile = make_profile(0)
    profile.write(tmp_path)
    assert Profile.read(str(tmp_path)) == profile


def test_a_missing_profile_is_reported_with_its_path(tmp_path):
    with pytest.raises(InputError, match=r"profile\.json: .*validate"):
        Profile.read(str(tmp_path))


def test_the_histogram_does_not_depend_on_strides():
    hu = np.random.default_rng(0).integers(-1024, 3000, (7, 8, 9)).astype(np.int16)
    turned = np.asfortranarray(hu)[::-1, :, ::-1]
    histogram = HuHistogram.from_voxels(turned)
    assert (histogram.counts == HuHistogram.from_voxels(hu).counts).all()
    assert histogram.percentile(50) == np.sort(hu, axis=None)[len(hu.ravel()) // 2 - 1]
    assert histogram.mean == pytest.approx(hu.mean())
    assert histogram.std == pytest.approx(hu.std())
    assert histogram.bin_shares(HU_EDGES)[1:-1].tolist() == pytest.approx(
        (np.histogram(hu, [*HU_EDGES])[0] - [*np.zeros(len(HU_EDGES) - 2), (hu == HU_EDGES[-1]).sum()]) / hu.size
    )
