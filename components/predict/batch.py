"""Segment one part of a batch of scans."""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from components.ct.grid import axial_slices
from components.ct.inference import predict_slices
from components.ct.scan_folder import scan_name
from components.ct.volume import Volume
from components.runtime.errors import InputError
from components.storage.gcs import download_prefix
from components.storage.gcs_uri import is_gcs_uri
from serving.client import Prediction, SegmentationClient, scans
from serving.client.summary import SUMMARY_FILE, SummaryRow, write_summary
from serving.versions.layout import local_copy, require_version, version_number

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelEndpoint:
    """The model that predicts: on a server, or from its version folder; check_parameters requires one of them."""

    name: str  # the model's name on the server
    server: str | None = None  # `host:port` of a gRPC endpoint
    model: str | None = None  # instead of a server, a model base or version folder, local or `gs://`
    version_label: str | None = None  # version label on the server; None for its newest version

    @contextmanager
    def connect(self) -> Iterator[scans.Predict]:
        """Connect to the server or load the model, and yield its predict function."""
        if self.server:
            with SegmentationClient(self.server, self.name, version_label=self.version_label) as client:
                yield client.predict
        else:
            with load_version(self.model or "") as predict:
                yield predict


@contextmanager
def load_version(model: str) -> Iterator[scans.Predict]:
    """Load a version, or the newest one in a model base, and yield its predict function.

    Args:
        model: a folder or `gs://bucket/prefix`.

    Raises:
        InputError: There is no version, its files differ from its manifest, or it has no signature `network`.
    """
    from serving.versions.saved_model import load_verified  # imports TensorFlow, not needed with a server

    version = require_version(model)
    with local_copy(version) as folder:
        try:
            saved_model = load_verified(folder)
            size, threshold = saved_model.image_size, saved_model.threshold
        except (OSError, ValueError) as error:
            raise InputError(f"{version}: expected a model that the export step wrote ({error})") from error

        def predict(scan: Volume) -> Prediction:
            slices_hu = axial_slices(scan.voxels)
            probability = np.empty(slices_hu.shape, np.float32)
            for part, values in predict_slices(saved_model.lesion_probability, slices_hu, size):
                probability[part] = values
            return Prediction.from_slices(probability, threshold, version_number(version))

        yield predict


def predict_part(
    source: str, names: Sequence[str], endpoint: ModelEndpoint, output: Path, min_lesion_ml: float
) -> list[SummaryRow]:
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
            download_prefix(source, folder, include=frozenset(names).__contains__)
        cases = {scan_name(folder / name): folder / name for name in names}
        tasks = [
            scans.ScanTask(case, scan, scans.OutputFiles.in_folder(output, case, "preview"))
            for case, scan in cases.items()
        ]
        with endpoint.connect() as predict:
            for row in scans.segment_scans(predict, tasks, min_lesion_ml):
                row = replace(row, error=row.error.replace(str(folder), source.rstrip("/")))
                rows.append(row)
                _log.info("%d/%d %s: %s", len(rows), len(tasks), row.case, row)
    if all(row.error for row in rows):
        raise InputError(f"every scan failed, {len(rows)} in all; the first: {rows[0].error}")
    write_summary(output / SUMMARY_FILE, rows)
    return rows
