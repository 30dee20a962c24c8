"""One digest of what a source holds: another one where any of it has changed."""

import hashlib
from pathlib import Path

from components.ingest.naming import Naming
from components.ingest.sources import list_cohort


def identify(
    source: str,
    *,
    masks: str = "infection_masks",
    pseudonym_key: Path | None = None,
) -> str:
    """Digest what ingest would read; nothing is downloaded.

    Args:
        source: the cohort, as for ingest.
        masks: name of the folder of masks, as for ingest.
        pseudonym_key: file with the key for pseudonyms; None for none.

    Returns:
        A hexadecimal SHA-256.

    Raises:
        InputError: there is no such source or key, in ingest's own words.
    """
    naming = Naming.read(pseudonym_key)
    with naming.redact_object_names(source):
        lines = list_cohort(source, masks=masks)
    lines.append(f"pseudonyms {naming.case_id('')}")  # which key it is, not what it is
    # File names need not be UTF-8.
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
