"""The COVID-19 CT Lung and Infection Segmentation Dataset: 20 scans, published as Zenodo record 3757476.

The record's page states CC BY 4.0, the data set's own text CC BY-NC-SA. Follow the stricter one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Self

from components.ct.scan_folder import NIFTI_SUFFIXES
from components.ingest.cohort_folder import normalize_folder_name
from components.runtime.errors import InputError
from components.storage.archive import extract_zip
from components.storage.http import RetryPolicy, download

_SCANS = "ct_scans"


class Archive(NamedTuple):
    """A zip file and its SHA-256."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Record:
    """The archives of a published data set, by the folder they unpack to: `ct_scans` and folders of masks."""

    base_url: str
    archives: Mapping[str, Archive]

    def at(self, base_url: str) -> Self:
        """Return the same archives at another address."""
        return replace(self, base_url=base_url.rstrip("/"))

    def select(self, masks: str) -> dict[str, Archive]:
        """Select the archive of scans and that of `masks`, matched as in `find_folders`.

        Raises:
            InputError: the record has no such masks.
        """
        by_key = {normalize_folder_name(name): archive for name, archive in self.archives.items() if name != _SCANS}
        archive = by_key.get(normalize_folder_name(masks))
        if archive is None:
            expected = ", ".join(name for name in self.archives if name != _SCANS)
            raise InputError(f"masks: {masks!r} are not in the 20-case set; expected {expected}")
        return {_SCANS: self.archives[_SCANS], masks: archive}


COVID_CT_SEG = Record(
    "https://zenodo.org/records/3757476/files",
    MappingProxyType(
        {
            _SCANS: Archive(
                "COVID-19-CT-Seg_20cases.zip", "a5060480eff9315b069b086312dac4872777901fb80d268a5a83edd9f4e7b440"
            ),
            "infection_masks": Archive(
                "Infection_Mask.zip", "87901c73fdd2230260e61d2dbc57bf56026efc28264006b8ea2bf411453c1694"
            ),
            "lung_masks": Archive("Lung_Mask.zip", "f060b0d0299939a6d95ddefdbfa281de1a779c4d230a5adbd32414711d6d8187"),
            "lung_and_infection_masks": Archive(
                "Lung_and_Infection_Mask.zip", "34f5a573cb8fb53cb15abe81868395d9addf436854826a6fd6e70c2b294f19c3"
            ),
        }
    ),
)


def fetch_record(
    record: Record, folder: Path, cache: Path, masks: str, retry_policy: RetryPolicy | None = None
) -> None:
    """Download the scans and one folder of masks, and unpack them to `folder`/ct_scans and `folder`/<masks>.

    Archives in `cache` with the right digest are not downloaded again.

    Raises:
        InputError: the record has no such masks, or an archive is unreachable, differs from its digest, or is unsafe.
    """
    for target, archive in record.select(masks).items():
        path = cache / archive.name
        download(f"{record.base_url}/{archive.name}", path, archive.sha256, retry_policy)
        extract_zip(path, folder / target, NIFTI_SUFFIXES)
