"""The COVID-19 CT Lung and Infection Segmentation Dataset: 20 scans, published as Zenodo record 3757476.

The record's page states CC BY 4.0, the data set's own text CC BY-NC-SA. Follow the stricter one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from components.ct.scan_folder import NIFTI_SUFFIXES, normalize_folder_name
from components.runtime.errors import InputError
from components.storage.archive import extract_zip
from components.storage.http import RetryPolicy, download

SCAN_ARCHIVE = "COVID-19-CT-Seg_20cases.zip"


@dataclass(frozen=True)
class Record:
    """The archives of the data set: their address, and the SHA-256 of each."""

    base_url: str
    sha256: Mapping[str, str]

    def with_base_url(self, base_url: str) -> Self:
        """Return the same archives at another address."""
        return replace(self, base_url=base_url.rstrip("/"))

    def select(self, masks: str) -> tuple[str, str]:
        """Return the names of the archive of scans and of the archive of `masks`, matched as in `find_folders`.

        Raises:
            InputError: the record has no such masks.
        """
        archives = {normalize_folder_name(Path(name).stem): name for name in self.sha256 if name != SCAN_ARCHIVE}
        archive = archives.get(normalize_folder_name(masks))
        if archive is None:
            raise InputError(f"masks: {masks!r} are not in the 20-case set; expected {', '.join(archives)}")
        return SCAN_ARCHIVE, archive


COVID_CT_SEG = Record(
    "https://zenodo.org/records/3757476/files",
    {
        SCAN_ARCHIVE: "a5060480eff9315b069b086312dac4872777901fb80d268a5a83edd9f4e7b440",
        "Infection_Mask.zip": "87901c73fdd2230260e61d2dbc57bf56026efc28264006b8ea2bf411453c1694",
        "Lung_Mask.zip": "f060b0d0299939a6d95ddefdbfa281de1a779c4d230a5adbd32414711d6d8187",
        "Lung_and_Infection_Mask.zip": "34f5a573cb8fb53cb15abe81868395d9addf436854826a6fd6e70c2b294f19c3",
    },
)


def fetch_record(
    record: Record, folder: Path, cache: Path, masks: str, retry_policy: RetryPolicy | None = None
) -> None:
    """Download the scans and one folder of masks, and unpack them to `folder`/ct_scans and `folder`/<masks>.

    Archives in `cache` with the right digest are not downloaded again.

    Raises:
        InputError: the record has no such masks, or an archive is unreachable, differs from its digest, or is unsafe.
    """
    for name, target in zip(record.select(masks), ("ct_scans", masks), strict=True):
        download(f"{record.base_url}/{name}", cache / name, sha256=record.sha256[name], retry_policy=retry_policy)
        extract_zip(cache / name, folder / target, NIFTI_SUFFIXES)
