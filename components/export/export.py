"""The export step on plain paths: from a passing verdict to a published version folder."""

import shutil
from itertools import islice
from pathlib import Path

import numpy as np

from components.evaluate.verdict import require_pass
from components.export.parity import query_saved_model, require_parity
from components.export.served_check import query_server
from components.export.signatures import ServedModel
from components.export.warmup import write_warmup_requests
from components.runtime.files import sha256_of
from components.slice.shards import read_split
from components.slice.split import Split
from components.train.network import load_model
from serving.versions.manifest import write_manifest
from serving.versions.preprocessing import write_contract
from serving.versions.publication import publish
from serving.versions.signing import sign

_PARITY_SLICES = 16
_FROM_EVALUATION = ("verdict.json", "model_card.md")  # what goes with the model wherever it goes


def export_version(
    model: Path, evaluation: Path, shards: Path, model_base: str, model_name: str, signing_key: Path | None = None
) -> str:
    """Publish a trained model as the next version under `model_base`.

    Args:
        model: output of train, with `model.keras`.
        evaluation: output of evaluate, with the verdict on that very model.
        shards: output of slice; its test slices are what the exported files are checked with.
        model_base: folder of the model's versions, or `gs://bucket/prefix`.
        model_name: the name under which a server offers it.
        signing_key: PEM of an elliptic curve key to sign the version with; None leaves it unsigned.

    Returns:
        The version's folder, absolute, or its address in Cloud Storage.

    Raises:
        InputError: no passing verdict for this model, or the export does not give its numbers.
    """
    weights = model / "model.keras"
    verdict = require_pass(evaluation / "verdict.json", sha256_of(weights))
    network = load_model(weights)
    size = Split.read(shards).image_size
    slices_hu = np.stack([record["slice_hu"] for record in islice(read_split(shards, "test", size), _PARITY_SLICES)])
    expected = network.predict(slices_hu.astype(np.float32), verbose=0).reshape(slices_hu.shape)

    def write(folder: Path) -> None:
        ServedModel(network, size, verdict.threshold).save(folder)
        write_warmup_requests(folder, model_name, size)
        write_contract(folder, size, verdict.threshold)
        for name in _FROM_EVALUATION:
            if (evaluation / name).is_file():
                shutil.copyfile(evaluation / name, folder / "assets.extra" / name)
        write_manifest(folder)
        if signing_key is not None:
            sign(folder, signing_key)
        difference = require_parity(query_saved_model(folder), expected, slices_hu, verdict.threshold)
        print(f"exported model differs from the evaluated one by at most {difference:.1e}", flush=True)
        with query_server(folder, model_name) as ask:
            difference = require_parity(ask, expected, slices_hu, verdict.threshold)
        print(f"a server on the same files answers with at most {difference:.1e} difference", flush=True)

    version = publish(model_base, write)
    base, _, number = version.rpartition("/")
    print(f"published {model_name} version {number} in {base}", flush=True)
    return version
