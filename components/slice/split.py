"""The split of a cohort into train, validation and test: by patient, stratified by lesion burden, lesion in each."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.ct.cases import Case
from components.runtime.errors import CohortError
from components.runtime.files import atomic_write
from components.runtime.json_file import parse_names, read_json

SPLITS = ("train", "validation", "test")
_HELD_OUT = 0.2  # share of the patients in validation, and in test
_FILE = "split.json"


@dataclass(frozen=True)
class Split:
    """The cases of each split, with the grid of their slices."""

    cases: Mapping[str, list[str]]  # sorted case ids for each of SPLITS
    image_size: int  # edge of the grid
    seed: int

    def write(self, folder: Path) -> None:
        """Write `split.json` into `folder`."""
        content = {"image_size": self.image_size, "seed": self.seed, **self.cases}
        with atomic_write(folder / _FILE) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Split":
        """Read `split.json` from a folder of shards; raise `InputError` if it is missing or damaged."""

        def parse(content: Any) -> Split:
            cases = {name: parse_names(content[name]) for name in SPLITS}
            return cls(cases, int(content["image_size"]), int(content["seed"]))

        return read_json(folder / _FILE, parse, "the output of slice; run slice again")


def split_by_patient(cases: Iterable[Case], burden: Mapping[str, float], seed: int) -> dict[str, list[str]]:
    """Split cases 60/20/20 by patient, with low and high lesion burdens and a patient with lesion in each split.

    The patients, ordered by burden, form as many strata as there are patients to hold out. The seed draws one patient
    of each stratum for validation and another for test; of the last stratum, patients with lesion.

    Args:
        cases: the cohort.
        burden: lesion share of each case's voxels, by case id.
        seed: of the draw.

    Raises:
        CohortError: fewer than three patients, or fewer with lesion.
    """
    scans = group_by_patient(cases, burden)
    if len(scans) < len(SPLITS):
        raise CohortError(
            f"{len(scans)} patients ({', '.join(sorted(scans)) or 'none'}); expected at least {len(SPLITS)} for train, "
            "validation and test; add scans"
        )
    affected = require_lesions(scans, burden, len(SPLITS), "train, validation and test")
    draw = np.random.default_rng(seed)
    patients: dict[str, list[str]] = {name: [] for name in SPLITS}
    strata = np.array_split(np.array(list(scans), dtype=object), max(1, round(_HELD_OUT * len(scans))))
    for stratum in strata:
        order = list(draw.permutation(stratum))
        if stratum is strata[-1]:
            order.sort(key=lambda patient: patient not in affected)  # stable: the draw decides among equals
        validation, test, *train = order
        patients["validation"].append(validation)
        patients["test"].append(test)
        patients["train"].extend(train)
    return {name: sorted(case for patient in patients[name] for case in scans[patient]) for name in SPLITS}


def group_by_patient(cases: Iterable[Case], burden: Mapping[str, float]) -> dict[str, list[str]]:
    """Group case ids by patient id, in ascending order of the patients' mean lesion burden (0 if unknown)."""
    scans: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        scans[case.patient_id].append(case.case_id)
    return dict(sorted(scans.items(), key=lambda item: (np.mean([burden.get(case, 0) for case in item[1]]), item[0])))


def require_lesions(scans: Mapping[str, list[str]], burden: Mapping[str, float], count: int, parts: str) -> set[str]:
    """Return the patients with lesion; raise `CohortError` if there are fewer than `count`, one for each of `parts`."""
    affected = {patient for patient, case_ids in scans.items() if any(burden.get(case, 0) > 0 for case in case_ids)}
    if len(affected) < count:
        raise CohortError(
            f"{len(affected)} of {len(scans)} patients with lesion ({', '.join(sorted(affected)) or 'none'}); expected "
            f"one or more in each of {parts}; check the masks, or add scans with lesion"
        )
    return affected


def require_patients_apart(cases: Iterable[Case], parts: Mapping[str, Iterable[str]]) -> None:
    """Raise `CohortError` with every patient whose scans are in more than one split."""
    patient_of = {case.case_id: case.patient_id for case in cases}
    parts_of: dict[str, set[str]] = defaultdict(set)
    for name, case_ids in parts.items():
        for case_id in case_ids:
            parts_of[patient_of[case_id]].add(name)
    problems = [f"{patient} in {' and '.join(sorted(names))}" for patient, names in parts_of.items() if len(names) > 1]
    if problems:
        raise CohortError(
            f"patients in more than one split: {'; '.join(sorted(problems))}; keep the scans of a patient together"
        )
