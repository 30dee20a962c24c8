"""Many scans in parts: which there are, what one part finds, and all findings together."""

import csv
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from components.collect_predictions.gallery import write_gallery
from components.ct.scan_folder import is_nifti_name
from components.predict.version_model import VersionModel
from components.runtime.errors import InputError
from components.storage.gcs import download_prefix, list_names
from components.storage.gcs_uri import is_gcs_uri
from serving.client.scan_files import Predict
from serving.client.scan_folders import SUMMARY, Row, outputs_for, scans_by_case, segment_all, write_summary
from serving.client.segmentation import SegmentationClient


@dataclass(frozen=True)
class Served:
    """Who answers: a server, or a version folder called directly.

    Attributes:
        server: `host:port` of a gRPC endpoint, or empty.
        model: without a server, a model base or version folder, local or `gs://`.
        name: the model's name on the server.
        version_label: version label on the server, or empty for its newest.
    """

    server: str
    model: str
    name: str
    version_label: str = ""

    @contextmanager
    def connected(self) -> Iterator[Predict]:
        """Connect or load; `InputError` unless exactly one of server and model is given."""
        if bool(self.server) == bool(self.model):
            raise InputError("give either server (host:port) or model (a version folder), and not both")
        if self.server:
            with SegmentationClient(self.server, self.name, label=self.version_label) as client:
                yield client.predict
        else:
            with VersionModel(self.model) as model:
                yield model.predict


def plan_parts(source: str, parts: int) -> list[str]:
    """Find the scans of a source and deal them out.

    Args:
        source: a folder of NIfTI files and DICOM series, or `gs://bucket/prefix` of NIfTI files.
        parts: how many parts at most; none is empty.

    Returns:
        For each part its files' names relative to the source, as a JSON list.

    Raises:
        InputError: There are no scans.
    """
    if is_gcs_uri(source):
        names = [name for name in list_names(source) if is_nifti_name(name) and "/" not in name]
        if not names:
            raise InputError(f"{source}: no .nii or .nii.gz objects here")
    else:
        if not Path(source).is_dir():
            raise InputError(f"{source}: is no folder; expected a folder of scans, or gs://bucket/prefix")
        names = [path.name for path in scans_by_case(Path(source)).values()]
    parts = max(1, min(parts, len(names)))
    # Dealt like cards: names that sort together are often alike in size.
    return [json.dumps(names[part::parts]) for part in range(parts)]


def predict_part(source: str, names: Sequence[str], served: Served, output: Path, min_lesion_ml: float) -> list[Row]:
    """Segment some scans of a source; masks, previews and a summary go to `output`.

    A scan that cannot be read is a row of the summary.

    Raises:
        InputError: Nobody answers, or not a single scan could be segmented.
    """
    output.mkdir(parents=True, exist_ok=True)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(source)
        if is_gcs_uri(source):
            folder = Path(scratch)
            download_prefix(source, folder, include=lambda name: name in set(names))
        scans = {case: scan for case, scan in scans_by_case(folder).items() if scan.name in set(names)}
        work = [(case, scan, outputs_for(case, output, False, True, False)) for case, scan in scans.items()]
        with served.connected() as predict:
            for row in segment_all(predict, work, min_lesion_ml):
                rows.append(row)
                print(f"{len(rows)}/{len(work)} {row.case}: {row.error or f'{row.lesion_ml:.1f} mL'}", flush=True)
    if all(row.error for row in rows):
        raise InputError(f"none of {len(rows)} scans was segmented; the first: {rows[0].error}")
    write_summary(output / SUMMARY, rows)
    return rows


def collect_predictions(parts: Sequence[Path], results: Path, page: Path) -> list[dict[str, str]]:
    """Bring the parts' masks and tables together, and draw the gallery.

    Returns:
        The rows of the summary as text, most lesion first.
    """
    (results / "masks").mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, str]] = []
    previews: dict[str, bytes] = {}
    for part in parts:
        with (part / SUMMARY).open(newline="") as file:
            rows += csv.DictReader(file)
        for mask in part.glob("*_mask.nii.gz"):
            shutil.copyfile(mask, results / "masks" / mask.name)
        previews |= {png.stem: png.read_bytes() for png in part.glob("*.png")}
    rows.sort(key=lambda row: (-float(row["lesion_ml"] or -1), row["case"]))
    with (results / SUMMARY).open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    write_gallery(page, rows, previews)
    return rows
