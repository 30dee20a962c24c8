"""The export step: from a passing verdict to a published version."""

import logging
import shutil
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from components.evaluate.verdict import Verdict, require_pass
from components.export.parity import query_saved_model, query_server, require_parity
from components.export.signatures import ServedModel, write_warmup_requests
from components.runtime.errors import InputError
from components.runtime.files import sha256_of
from components.slice.shards import read_split
from components.slice.split import Split
from components.train import MODEL_FILE
from components.train.network import load_model
from serving.versions.contract import write_contract
from serving.versions.layout import ASSETS_EXTRA, MANIFEST_FILE, MODEL_CARD_FILE, VERDICT_FILE
from serving.versions.manifest import write_manifest
from serving.versions.publication import publish
from serving.versions.signing import sign

_PARITY_SLICES = 16

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportedVersion:
    """A published version."""

    location: str  # absolute folder, or URI in Cloud Storage
    manifest_sha256: str  # digest of the manifest, which lists the digests of all files
    verdict: Verdict

    def metadata(self) -> dict[str, str | float]:
        """Describe the version to Kubeflow."""
        return {
            "location": self.location,
            "version": self.location.rpartition("/")[2],
            "verdict": self.verdict.verdict,
            "test_dice": self.verdict.test_dice,
            "model_sha256": self.verdict.model_sha256,
            "manifest_sha256": self.manifest_sha256,
        }


def export_version(
    *,
    model: Path,
    evaluation: Path,
    shards: Path,
    model_base: str,
    verdict_sha256: str,
    model_name: str,
    signing_key: Path | None = None,
) -> ExportedVersion:
    """Publish a trained model as the next version under `model_base`.

    Args:
        model: output of train.
        evaluation: output of evaluate, with the verdict on this model.
        shards: output of slice, whose test slices the parity check uses.
        model_base: folder of the model's versions, or `gs://bucket/prefix`.
        verdict_sha256: digest of `verdict.json` when evaluate wrote it.
        model_name: name under which the model is served.
        signing_key: PEM of an elliptic curve key to sign the version with; None leaves it unsigned.

    Raises:
        InputError: there is no passing verdict on this model, or no model card, as evaluate wrote it, or the parity
            check fails.
    """
    weights = model / MODEL_FILE
    network = load_model(weights)
    verdict = require_pass(evaluation / VERDICT_FILE, model_sha256=sha256_of(weights), verdict_sha256=verdict_sha256)
    card = evaluation / MODEL_CARD_FILE
    if not card.is_file() or sha256_of(card) != verdict.model_card_sha256:
        raise InputError(f"{card}: missing or edited; expected the card that evaluate wrote; run evaluate again")
    size = Split.read(shards).image_size
    slices_hu = np.stack([record["slice_hu"] for record in islice(read_split(shards, "test", size), _PARITY_SLICES)])
    expected = network.predict(slices_hu.astype(np.float32), verbose=0).reshape(slices_hu.shape)
    slices = {"slices_hu": slices_hu, "expected": expected}

    manifest_sha256 = ""

    def write(folder: Path) -> None:
        nonlocal manifest_sha256
        ServedModel(network, size, verdict.threshold).save(folder)
        write_warmup_requests(folder, model_name, size)
        write_contract(folder, size, verdict.threshold)
        for name in (VERDICT_FILE, MODEL_CARD_FILE):
            shutil.copyfile(evaluation / name, folder / ASSETS_EXTRA / name)
        write_manifest(folder)
        manifest_sha256 = sha256_of(folder / MANIFEST_FILE)
        if signing_key is not None:
            sign(folder, signing_key)
        difference = require_parity(query_saved_model(folder), **slices, threshold=verdict.threshold)
        _log.info("parity: the exported files differ from the evaluated model by at most %.1e", difference)
        with query_server(folder, model_name) as query:
            difference = require_parity(query, **slices, threshold=verdict.threshold)
        _log.info("parity: a server on them differs from the evaluated model by at most %.1e", difference)

    location = publish(model_base, write)
    base, _, number = location.rpartition("/")
    _log.info("published %s version %s in %s", model_name, number, base)
    return ExportedVersion(location, manifest_sha256, verdict)
