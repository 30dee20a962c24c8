"""The COVID-19 CT Lung and Infection Segmentation Dataset: 20 scans, published as Zenodo record 3757476.

License: CC BY 4.0 by the record's page, CC BY-NC-SA by the data set's own text. The stricter one is the safe one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from components.ingest.directory import folder_key
from components.runtime.errors import InputError
from components.storage.archive import extract_zip
from components.storage.http import RetryPolicy, download

_SUFFIXES = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Record:
    """Where the archives are, and what is in them.

    Attributes:
        base_url: address of the folder of archives.
        scans: name of the archive of scans.
        masks: for each folder of masks that can be asked for, the name of its archive.
        sha256: of each archive.
    """

    base_url: str
    scans: str
    masks: Mapping[str, str]
    sha256: Mapping[str, str]

    def at(self, base_url: str) -> "Record":
        """The same archives at another address."""
        return replace(self, base_url=base_url.rstrip("/"))

    def archives(self, masks: str) -> tuple[str, str]:
        """The archive of scans and that of one kind of masks, which are named by their folder, see `find_folders`.

        Raises:
            InputError: masks that the record does not have.
        """
        wanted = next((name for key, name in self.masks.items() if folder_key(key) == folder_key(masks)), None)
        if wanted is None:
            raise InputError(f"the 20-case set has no masks named {masks}; expected {', '.join(self.masks)}")
        return self.scans, wanted


COVID_CT_SEG = Record(
    base_url="https://zenodo.org/records/3757476/files",
    scans="COVID-19-CT-Seg_20cases.zip",
    masks=MappingProxyType(
        {
            "infection_masks": "Infection_Mask.zip",
            "lung_masks": "Lung_Mask.zip",
            "lung_and_infection_masks": "Lung_and_Infection_Mask.zip",
        }
    ),
    sha256=MappingProxyType(
        {
            "COVID-19-CT-Seg_20cases.zip": "a5060480eff9315b069b086312dac4872777901fb80d268a5a83edd9f4e7b440",
            "Infection_Mask.zip": "87901c73fdd2230260e61d2dbc57bf56026efc28264006b8ea2bf411453c1694",
            "Lung_Mask.zip": "f060b0d0299939a6d95ddefdbfa281de1a779c4d230a5adbd32414711d6d8187",
            "Lung_and_Infection_Mask.zip": "34f5a573cb8fb53cb15abe81868395d9addf436854826a6fd6e70c2b294f19c3",
        }
    ),
)


def fetch_record(
    record: Record, folder: Path, cache: Path, masks: str, retry_policy: RetryPolicy | None = None
) -> None:
    """Fetch the scans and one kind of masks, and unpack them to `folder`/ct_scans and `folder`/<masks>.

    Args:
        record: which archives, and where.
        folder: where the volumes go.
        cache: where the archives are kept; one that is there with its digest is not fetched again.
        masks: which masks, by the name of their folder, see `find_folders`.
        retry_policy: how long to wait for the server.

    Raises:
        InputError: masks that the record does not have, an archive that cannot be had as published, or is unsafe.
    """
    for name, target in zip(record.archives(masks), ("ct_scans", masks), strict=True):
        archive = cache / name
        download(f"{record.base_url}/{name}", archive, record.sha256[name], retry_policy)
        extract_zip(archive, folder / target, _SUFFIXES)
