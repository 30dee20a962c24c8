"""Segment one part of a batch of scans."""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from components.predict.version_model import load_version
from components.runtime.errors import InputError
from components.storage.gcs import download_prefix
from components.storage.gcs_uri import is_gcs_uri
from serving.client import SegmentationClient, scans

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelEndpoint:
    """The model that predicts: on a server, or loaded from its version folder.

    Attributes:
        name: the model's name on the server.
        server: `host:port` of a gRPC endpoint.
        model: instead of a server, a model base or version folder, local or `gs://`.
        version_label: version label on the server; None for its newest version.
    """

    name: str
    server: str | None = None
    model: str | None = None
    version_label: str | None = None

    @contextmanager
    def connect(self) -> Iterator[scans.Predict]:
        """Connect to the server or load the model, and yield its predict function."""
        if self.server and not self.model:
            with SegmentationClient(self.server, self.name, version_label=self.version_label) as client:
                yield client.predict
        elif self.model and not self.server:
            with load_version(self.model) as predict:
                yield predict
        else:
            raise InputError(f"server {self.server} and model {self.model}: expected exactly one of them")


def predict_part(
    source: str, names: Sequence[str], endpoint: ModelEndpoint, output: Path, min_lesion_ml: float
) -> list[scans.SummaryRow]:
    """Segment some scans of a source, named relative to it, and write masks, previews and a summary to `output`.

    A scan that fails becomes a row with an error.

    Raises:
        InputError: The model is not available, or every scan failed.
    """
    output.mkdir(parents=True, exist_ok=True)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(source)
        if is_gcs_uri(source):
            folder = Path(scratch)
            download_prefix(source, folder, include=lambda name: name in set(names))
        tasks = [
            scans.ScanTask(case, scan, scans.OutputFiles.in_folder(output, case, "preview"))
            for case, scan in scans.scans_by_case(folder).items()
            if scan.name in set(names)
        ]
        with endpoint.connect() as predict:
            for row in scans.segment_scans(predict, tasks, min_lesion_ml):
                rows.append(row)
                _log.info("%d/%d %s: %s", len(rows), len(tasks), row.case, row)
    if all(row.error for row in rows):
        raise InputError(f"all {len(rows)} scans failed; the first: {rows[0].error}")
    scans.write_summary(output / scans.SUMMARY, rows)
    return rows
