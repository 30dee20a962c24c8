"""The statistics of a cohort that a later one is compared with, and by how much that one has drifted.

A model is as good as its test said for scans like those it was tested on. Where a later cohort has another HU
distribution, other slice spacings or a heavier lesion burden, that number no longer holds.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.runtime.errors import InputError
from components.runtime.files import atomic_write

PROFILE = "profile.json"
HU_EDGES = np.arange(-950, 251, 50)  # below the first lie air and padding, above the last what the window cuts off
COMPARED = (
    *("hu_p25", "hu_p50", "hu_p75", "hu_sd", "air_share"),
    *("column_spacing_mm", "row_spacing_mm", "slice_spacing_mm", "height_mm"),
    *("lesion_ml", "lesion_share", "lesion_count", "lesion_hu_mean", "lung_ml"),
)
QUANTILES = (5, 25, 50, 75, 95)
MAX_STABILITY_INDEX = 0.25  # "significant change" by the usual reading; 0.1 is a small one (Siddiqi, 2006)
MAX_SHIFT = 1.0  # of the median, in interquartile ranges of the reference
_BINS = 10  # the stability index is read against tenths of the reference
_LEAST_SHARE = 1e-4  # keeps the index finite where a bin is empty
_LEAST_SPREAD = 0.05  # of the median: a cohort of one scanner has no spread at all in its spacings


@dataclass(frozen=True)
class Profile:
    """Reference statistics of a cohort.

    Attributes:
        cases: how many there are.
        hu_shares: mean share of a case's voxels in each bin of `HU_EDGES`; each case counts the same.
        facts: for each of `COMPARED` the quantiles over the cases (`p05` …), and in `n` how many cases have it.
    """

    cases: int
    hu_shares: list[float]
    facts: Mapping[str, Mapping[str, float]]

    @classmethod
    def of(cls, facts: pd.DataFrame, hu_shares: Sequence[NDArray[np.float64]]) -> Self:
        """Sum up a cohort's fact table and the HU shares of its cases."""
        shares = np.mean(hu_shares, axis=0) if len(hu_shares) else np.zeros(len(HU_EDGES) + 1)
        return cls(len(facts), shares.tolist(), {name: _quantiles(facts[name]) for name in COMPARED})

    def write(self, folder: Path) -> None:
        """Write `profile.json` into `folder`."""
        content = {"hu_edges": HU_EDGES.tolist(), **asdict(self)}
        with atomic_write(folder / PROFILE) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read `profile.json` of a folder; `InputError` where there is none or it is another version's."""
        path = folder / PROFILE
        try:
            content = json.loads(path.read_text())
            if content.pop("hu_edges") != HU_EDGES.tolist():
                raise ValueError("it has other HU bins")
            return cls(**content)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{path}: no cohort profile ({error}); give the profile that validate wrote") from error


@dataclass(frozen=True)
class Drift:
    """One comparison of a cohort with a profile.

    Attributes:
        fact: what is compared.
        reference: the profile's median and interquartile range; empty for the HU distribution as a whole.
        found: the same of this cohort.
        measure: what `value` is.
        value: how far the two are apart.
        limit: from where on that is a finding.
    """

    fact: str
    reference: str
    found: str
    measure: str
    value: float
    limit: float

    @property
    def is_large(self) -> bool:
        """Whether it is beyond the limit."""
        return self.value > self.limit


def compare(reference: Profile, found: Profile) -> list[Drift]:
    """Compare a cohort with a reference, the HU distribution first; a fact that either lacks is left out."""
    index = stability_index(np.array(reference.hu_shares), np.array(found.hu_shares))
    drifts = [Drift("hu_distribution", "", "", "population stability index", index, MAX_STABILITY_INDEX)]
    for name in COMPARED:
        before, now = reference.facts.get(name, {"n": 0}), found.facts[name]
        if before["n"] and now["n"]:
            shift = abs(now["p50"] - before["p50"]) / _spread(before)
            drifts.append(Drift(name, _text(before), _text(now), "shift in interquartile ranges", shift, MAX_SHIFT))
    return drifts


def stability_index(reference: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    """Population stability index of two distributions over the same bins.

    The bins are joined to tenths of the reference, or fewer where one bin holds more. The index is the sum of
    (found - reference) · ln(found / reference) (Siddiqi, Credit Risk Scorecards, 2006).
    """
    tenth = np.minimum((np.cumsum(reference) - reference / 2) * _BINS, _BINS - 1).astype(int)
    before, now = (np.bincount(tenth, shares, _BINS) for shares in (reference, found))
    used = np.bincount(tenth, minlength=_BINS) > 0
    before, now = np.maximum(before[used], _LEAST_SHARE), np.maximum(now[used], _LEAST_SHARE)
    return float(((now - before) * np.log(now / before)).sum())


def _quantiles(values: pd.Series) -> dict[str, float]:
    present = values.dropna().to_numpy(float)
    if not len(present):
        return {"n": 0}
    return {"n": len(present)} | {f"p{q:02}": float(np.percentile(present, q)) for q in QUANTILES}


def _spread(quantiles: Mapping[str, float]) -> float:
    return max(quantiles["p75"] - quantiles["p25"], _LEAST_SPREAD * abs(quantiles["p50"]), 1e-9)


def _text(quantiles: Mapping[str, float]) -> str:
    return f"{quantiles['p50']:.4g} ({quantiles['p25']:.4g} to {quantiles['p75']:.4g})"
