"""The profile of a cohort: reference statistics that reveal the drift of later cohorts.

A test result does not apply to a cohort with another HU distribution, slice spacing or lesion burden.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.runtime.files import atomic_write
from components.runtime.json_file import read_json
from components.storage.gcs_uri import is_gcs_uri

PROFILE_FILE = "profile.json"
HU_EDGES = np.arange(-950, 251, 50)  # air and padding are below the first; the CT window ends at the last
COMPARED_FACTS = (
    *("hu_p25", "hu_p50", "hu_p75", "hu_sd", "air_share"),
    *("column_spacing_mm", "row_spacing_mm", "slice_spacing_mm", "height_mm"),
    *("lesion_ml", "lesion_share", "lesion_count", "lesion_hu_mean", "lung_ml"),
)
HU_DISTRIBUTION = "hu_distribution"
QUANTILES = (5, 25, 50, 75, 95)
MAX_STABILITY_INDEX = 0.25  # "significant change"; 0.1 is a small one (Siddiqi, 2006)
MAX_SHIFT = 1.0  # of the median, in interquartile ranges of the reference
_BINS = 10  # the stability index compares deciles of the reference
_MIN_SHARE = 1e-4  # keeps the index finite for empty bins
_MIN_SPREAD = 0.05  # of the median: the spacings of a single scanner have no spread


@dataclass(frozen=True)
class Profile:
    """Reference statistics of a cohort."""

    cases: int
    hu_shares: list[float]  # mean share of voxels in each bin of `HU_EDGES`, of equally weighted cases; 0 if unknown
    facts: Mapping[str, Mapping[str, float]]  # for each of `COMPARED_FACTS` the quantiles (`p05` …) and cases (`n`)

    @classmethod
    def from_facts(cls, facts: pd.DataFrame, hu_shares: Sequence[NDArray[np.float64] | None]) -> "Profile":
        """Summarize a fact table and the HU shares of its cases, None where unknown."""
        known = [shares for shares in hu_shares if shares is not None]
        shares = np.mean(known, axis=0) if known else np.zeros(len(HU_EDGES) + 1)
        return cls(len(facts), shares.tolist(), {name: _quantiles(facts[name]) for name in COMPARED_FACTS})

    def write(self, folder: Path) -> None:
        """Write `profile.json` into `folder`."""
        with atomic_write(folder / PROFILE_FILE) as temporary:
            temporary.write_text(json.dumps({"hu_edges": HU_EDGES.tolist(), **asdict(self)}, indent=2) + "\n")

    @classmethod
    def read(cls, address: str | Path) -> "Profile":
        """Read `profile.json` from a folder or `gs://` prefix; raise `InputError` if it is missing or incompatible."""
        if is_gcs_uri(str(address)):
            from components.storage.gcs import download_prefix  # importing the client takes a second

            with tempfile.TemporaryDirectory() as scratch:
                download_prefix(str(address), Path(scratch), include=PROFILE_FILE.__eq__)
                return cls.read(scratch)

        def parse(content: Any) -> "Profile":
            if content.pop("hu_edges") != HU_EDGES.tolist():
                raise ValueError("different HU bins")
            return cls(**content)

        path = Path(address).expanduser() / PROFILE_FILE
        return read_json(path, parse, "a cohort profile; give the profile of a validate step")


@dataclass(frozen=True)
class Drift:
    """A comparison of a cohort with a reference profile."""

    fact: str
    reference: str  # median and interquartile range; empty for the HU distribution
    observed: str  # the same for this cohort
    measure: str
    value: float
    limit: float

    @property
    def exceeds_limit(self) -> bool:
        """Whether the drift is a finding."""
        return self.value > self.limit


def compare_profiles(*, reference: Profile, observed: Profile) -> list[Drift]:
    """Compare a cohort with a reference: the HU distribution, and each fact, that both have."""
    drifts = []
    if any(reference.hu_shares) and any(observed.hu_shares):
        index = stability_index(reference=np.array(reference.hu_shares), observed=np.array(observed.hu_shares))
        drifts.append(Drift(HU_DISTRIBUTION, "", "", "population stability index", index, MAX_STABILITY_INDEX))
    for name in COMPARED_FACTS:
        old, new = reference.facts.get(name, {"n": 0}), observed.facts[name]
        if old["n"] and new["n"]:
            spread = max(old["p75"] - old["p25"], _MIN_SPREAD * abs(old["p50"]), 1e-9)
            shift = abs(new["p50"] - old["p50"]) / spread
            drifts.append(Drift(name, _format(old), _format(new), "shift in interquartile ranges", shift, MAX_SHIFT))
    return drifts


def stability_index(*, reference: NDArray[np.float64], observed: NDArray[np.float64]) -> float:
    """Population stability index of two distributions over the same bins.

    Merges the bins into deciles of the reference, or fewer if one bin holds more. The index is the sum of
    (observed - reference) · ln(observed / reference) (Siddiqi, Credit Risk Scorecards, 2006).
    """
    decile = np.minimum((np.cumsum(reference) - reference / 2) * _BINS, _BINS - 1).astype(int)
    bins = np.unique(decile)
    old, new = (np.maximum(np.bincount(decile, shares)[bins], _MIN_SHARE) for shares in (reference, observed))
    return float(((new - old) * np.log(new / old)).sum())


def _quantiles(values: pd.Series) -> dict[str, float]:
    numbers = values.dropna().to_numpy(float)
    if not len(numbers):
        return {"n": 0}
    return {"n": len(numbers)} | {f"p{q:02}": float(np.percentile(numbers, q)) for q in QUANTILES}


def _format(quantiles: Mapping[str, float]) -> str:
    return f"{quantiles['p50']:.4g} ({quantiles['p25']:.4g} to {quantiles['p75']:.4g})"
