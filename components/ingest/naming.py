"""What cases and patients are called in the output and in messages: by their files' names, or by pseudonyms."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from components.ingest.pairing import case_id_of
from components.ingest.pseudonyms import Pseudonyms
from components.runtime.errors import InputError

_KNOWN_COHORTS = ("coronacases", "radiopaedia")  # the two origins of the 20-case set, by the start of their names
_SECRET_COHORT = "cohort"


class Naming:
    """The names that may leave ingest.

    Args:
        pseudonyms: ids in the place of names; None keeps the names.

    Attributes:
        seen: the cases that any file belongs to, by their names.
    """

    def __init__(self, pseudonyms: Pseudonyms | None):
        self._pseudonyms = pseudonyms
        self.seen: set[str] = set()
        self._shown: dict[str, str] = {}  # what stands for a path or file name in messages

    @classmethod
    def read(cls, key_file: Path | None) -> "Naming":
        """By the key in a file, or by names where there is none."""
        return cls(Pseudonyms.read(key_file) if key_file else None)

    def case_id(self, name: str) -> str:
        """The case's id in the output."""
        return self._pseudonyms.case_id(name) if self._pseudonyms else name

    def patient_id(self, patient: str, case: str) -> str:
        """The patient's id in the output; a patient known by one case alone is called after it."""
        if self._pseudonyms is None:
            return patient
        return self._pseudonyms.case_id(case) if patient == case else self._pseudonyms.patient_id(patient)

    def origin(self, case: str, cohort: str) -> str:
        """Where a case comes from: one of the origins that are known, or the cohort that it lies in."""
        known = next((origin for origin in _KNOWN_COHORTS if case.startswith(f"{origin}_")), None)
        return known or (_SECRET_COHORT if self._pseudonyms else cohort)

    def see(self, files: Iterable[Path]) -> None:
        """Take in the files that there are, whose names may have to be hidden."""
        for path in files:
            name = case_id_of(path.name)
            self.seen.add(name)
            if self._pseudonyms is None:
                continue
            shown = self.case_id(name)
            self._shown |= {str(path): shown, path.name: shown, f"{name}.nii.gz": shown}
            if path.is_dir():
                self._shown |= {inside.name: "a slice" for inside in path.iterdir()}

    def hidden(self, text: str) -> str:
        """A message without the names of files; the longest go first, paths before the names in them."""
        for name in sorted(self._shown, key=len, reverse=True):
            text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", self._shown[name], text)
        return text

    @contextmanager
    def redact_object_names(self, source: str) -> Iterator[None]:
        """Leave object names out of the errors of fetching `source`."""
        try:
            yield
        except InputError as error:
            if self._pseudonyms is None:
                raise
            inside = re.escape(source.rstrip("/"))
            raise InputError(re.sub(rf"{inside}/.+?(?=: )", f"{source}: an object", str(error))) from None
