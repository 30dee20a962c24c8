"""Fingerprint the content of a source, to detect changes."""

import hashlib
from pathlib import Path

from components.ingest.naming import Naming
from components.ingest.sources import list_cohort


def fingerprint_source(source: str, *, masks: str = "infection_masks", pseudonym_key: Path | None = None) -> str:
    """Return a SHA-256 of the list of files that ingest would read, without downloading them.

    Raises:
        InputError: the source or the key is invalid or missing; ingest raises the same message.
    """
    naming = Naming.from_key_file(pseudonym_key)
    with naming.redact_source(source):
        lines = list_cohort(source, masks=masks)
    lines.append(f"pseudonyms {naming.case_id('')}")  # identifies the key without revealing it
    # File names need not be UTF-8.
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
