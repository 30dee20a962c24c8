"""The split of a cohort into train, validation and test: by patient, stratified by lesion burden."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.ct.cases import Case
from components.runtime.errors import CohortError
from components.runtime.files import atomic_write

SPLITS = ("train", "validation", "test")
_HELD_OUT = 0.2  # of the patients, for validation and for test each
_FILE = "split.json"


@dataclass(frozen=True)
class Split:
    """Which cases are for what.

    Attributes:
        cases: case ids of each of `SPLITS`, sorted.
        image_size: edge of the network's grid on which the slices were written.
        seed: what the split was drawn with.
    """

    cases: Mapping[str, list[str]]
    image_size: int
    seed: int

    def write(self, folder: Path) -> None:
        """Write `split.json` into `folder`."""
        content = {"image_size": self.image_size, "seed": self.seed, **self.cases}
        with atomic_write(folder / _FILE) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Split":
        """Read `split.json` of a folder of shards; `CohortError` where there is none."""
        path = folder / _FILE
        if not path.is_file():
            raise CohortError(f"{path}: no split; give the output of the slice step")
        content = json.loads(path.read_text())
        return cls({name: content[name] for name in SPLITS}, content["image_size"], content["seed"])


def split_by_patient(cases: Iterable[Case], burden: Mapping[str, float], seed: int) -> dict[str, list[str]]:
    """Split cases 60/20/20, all scans of a patient together, each part with light and heavy cases.

    The patients are ordered by burden and cut into as many strata as patients are to be held out; each stratum
    gives one patient, drawn by the seed, to validation and another to test.

    Args:
        cases: the cohort.
        burden: share of each case's voxels that is lesion, by case id; a patient counts with the mean.
        seed: of the draw.

    Raises:
        CohortError: fewer than three patients.
    """
    scans: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        scans[case.patient_id].append(case.case_id)
    if len(scans) < len(SPLITS):
        raise CohortError(
            f"{len(scans)} patients ({', '.join(sorted(scans)) or 'none'}); a split into train, validation and test "
            f"needs at least {len(SPLITS)}: add scans"
        )
    by_burden = sorted(scans, key=lambda patient: (np.mean([burden[case] for case in scans[patient]]), patient))
    draw = np.random.default_rng(seed)
    patients: dict[str, list[str]] = {name: [] for name in SPLITS}
    for stratum in np.array_split(np.array(by_burden, dtype=object), max(1, round(_HELD_OUT * len(scans)))):
        validation, test, *train = draw.permutation(stratum)
        patients["validation"].append(validation)
        patients["test"].append(test)
        patients["train"].extend(train)
    return {name: sorted(case for patient in patients[name] for case in scans[patient]) for name in SPLITS}


def require_patients_apart(cases: Iterable[Case], parts: Mapping[str, Iterable[str]]) -> None:
    """Raise `CohortError` that lists every patient with scans in more than one part."""
    patient_of = {case.case_id: case.patient_id for case in cases}
    found: dict[str, set[str]] = defaultdict(set)
    for name, case_ids in parts.items():
        for case_id in case_ids:
            found[patient_of[case_id]].add(name)
    both = [f"{patient} in {' and '.join(sorted(names))}" for patient, names in sorted(found.items()) if len(names) > 1]
    if both:
        raise CohortError(f"patients on both sides of the split: {'; '.join(both)}; a patient's scans stay together")
