"""The names of cases and patients in outputs and messages: those of their files, or pseudonyms.

A pseudonym is a keyed hash (HMAC, RFC 2104): the same name and key give the same id in every run, so a cohort can be
extended, and without the key an id cannot be checked against a list of names. The key comes from a file, because
parameters appear in logs and artifacts.
"""

import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from components.ct.cases import name_key
from components.ct.scan_folder import public_suffix, series_files
from components.ingest.cohort_folder import LayoutError
from components.ingest.pairing import parse_case_id
from components.runtime.errors import InputError

_KNOWN_SITES = ("coronacases", "radiopaedia")  # the two sites of the 20-case set, as prefixes of its case ids
_ANONYMOUS_SITE = "cohort"
_MIN_KEY_BYTES = 16
_MAX_NAMES = 20  # in a message
_HASH_DIGITS = 12  # 48 bits: two of a thousand cases share an id once in half a billion cohorts


class Naming:
    """Map the names in a source to the names that outputs may contain: pseudonyms, or the same names without a key."""

    def __init__(self, key: bytes | None = None):
        self._key = key
        self.case_names: set[str] = set()  # original names of the cases of registered files
        self._replacements: dict[str, str] = {}  # path or name -> its replacement in messages

    @classmethod
    def from_key_file(cls, key_file: Path | None) -> Self:
        """Read the key from a file and strip surrounding white space; None keeps names.

        Raises:
            InputError: the file cannot be read, or the key is too short to keep a secret.
        """
        if key_file is None:
            return cls()
        try:
            key = key_file.read_bytes().strip()
        except OSError as error:
            raise InputError(
                f"{key_file}: cannot read the pseudonym key ({error.strerror}); "
                "create one with: openssl rand -hex 32 > FILE, and keep it"
            ) from None
        if len(key) < _MIN_KEY_BYTES:
            raise InputError(f"{key_file}: the pseudonym key has {len(key)} bytes; expected {_MIN_KEY_BYTES} or more")
        return cls(key)

    def case_id(self, name: str) -> str:
        """The output id of the case that the source calls `name`."""
        return name if self._key is None else f"case-{self._hash('case', name)}"

    def patient_id(self, patient: str) -> str:
        """The output id of a patient."""
        return patient if self._key is None else f"patient-{self._hash('patient', patient)}"

    def site(self, case: str, cohort: str) -> str:
        """The known site of a case, or the name of its cohort."""
        known = next((site for site in _KNOWN_SITES if case.startswith(f"{site}_")), None)
        return known or (cohort if self._key is None else _ANONYMOUS_SITE)

    def register(self, files: Iterable[Path], root: Path) -> None:
        """Record the scans and masks of a source in the folder `root`, for `case_names` and `redact`."""
        for path in files:
            case = parse_case_id(path.name)
            self.case_names.add(case)
            if self._key is None:
                continue
            slices = series_files(path) if path.is_dir() else []
            folders = [folder for file in (path, *slices) for folder in file.parent.relative_to(root).parts[1:]]
            self._replacements |= dict.fromkeys(folders, "a folder") | {file.name: "a slice" for file in slices}
            self._replacements |= dict.fromkeys((str(path), path.name, f"{case}.nii.gz", case), self.case_id(case))

    def redact(self, text: str) -> str:
        """Replace the names of registered files and folders in a message."""
        # Longest first: paths before the names in them. A number such as `1` is not replaced: messages hold numbers.
        names = [name for name in self._replacements if not re.fullmatch(r"\d{0,3}", name)]
        if not names:
            return text
        pattern = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
        return re.sub(rf"(?<![\w-])({pattern})(?![\w-])", lambda match: self._replacements[match[0]], text)

    def list_files(self, counts: Mapping[str, int]) -> str:
        """Join file names and their counts for a message; with pseudonyms, without names."""
        names = [f"{name} ({count} files)" if count > 1 else name for name, count in counts.items()]
        if self._key is not None:
            suffixes: Counter[str] = Counter()
            for name, count in counts.items():
                suffixes[public_suffix(name) or "other"] += count
            names = [f"{count} {suffix}" for suffix, count in sorted(suffixes.items())]
        more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
        return ", ".join(names[:_MAX_NAMES]) + more

    @contextmanager
    def redact_source(self, source: str) -> Iterator[None]:
        """Remove the names of folders and objects from the errors of fetching `source`, unless names are kept."""
        try:
            yield
        except InputError as error:
            if self._key is None:
                raise
            message = error.public if isinstance(error, LayoutError) else str(error)
            prefix = re.escape(source.rstrip("/"))
            raise InputError(re.sub(rf"{prefix}/.+?(?=: )", f"{source}: an object", message)) from None

    def _hash(self, kind: str, name: str) -> str:
        message = f"{kind}:{name_key(name)}".encode()
        return hmac.new(self._key or b"", message, hashlib.sha256).hexdigest()[:_HASH_DIGITS]
