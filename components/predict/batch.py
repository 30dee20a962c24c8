"""Segment one part of a batch of scans."""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from components.predict.version_model import VersionModel
from components.runtime.errors import InputError
from components.storage.gcs import download_prefix
from components.storage.gcs_uri import is_gcs_uri
from serving.client import SegmentationClient
from serving.client.scan_files import Predict
from serving.client.scan_folders import SUMMARY, SummaryRow, plan_task, scans_by_case, segment_scans, write_summary

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
    def connect(self) -> Iterator[Predict]:
        """Connect to the server or load the model; yield its predict function.

        Raises:
            InputError: Neither or both of `server` and `model` are given, or the model cannot be loaded.
        """
        if self.server and self.model:
            raise InputError(f"server {self.server} and model {self.model}: expected one of them")
        if self.server:
            with SegmentationClient(self.server, self.name, version_label=self.version_label) as client:
                yield client.predict
        elif self.model:
            with VersionModel(self.model) as model:
                yield model.predict
        else:
            raise InputError("no model: expected either server (host:port) or model (a version folder)")


def predict_part(
    source: str, names: Sequence[str], endpoint: ModelEndpoint, output: Path, min_lesion_ml: float
) -> list[SummaryRow]:
    """Segment some scans of a source and write masks, previews and a summary.

    A scan that fails becomes a row with an error.

    Args:
        source: a folder of scans, or `gs://bucket/prefix`.
        names: file names relative to the source.
        endpoint: the model that predicts.
        output: the folder to write to.
        min_lesion_ml: smaller connected lesions are removed from the masks.

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
        scans = {case: scan for case, scan in scans_by_case(folder).items() if scan.name in set(names)}
        tasks = [plan_task(case, scan, output, preview=True) for case, scan in scans.items()]
        with endpoint.connect() as predict:
            for row in segment_scans(predict, tasks, min_lesion_ml):
                rows.append(row)
                _log.info("%d/%d %s: %s", len(rows), len(tasks), row.case, row.error or f"{row.lesion_ml:.1f} mL")
    if all(row.error for row in rows):
        raise InputError(f"all {len(rows)} scans failed; the first: {rows[0].error}")
    write_summary(output / SUMMARY, rows)
    return rows
