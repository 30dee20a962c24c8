"""Rows 37 to 43 of the fault table: models the gate must stop, and versions that must be complete or absent."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import pytest
import tensorflow as tf

from components.evaluate.verdict import require_pass
from components.export.export import export_version
from components.runtime.errors import InputError
from components.runtime.files import sha256_of
from components.train import MODEL_FILE
from serving.versions.layout import (
    ASSETS_EXTRA,
    MODEL_CARD_FILE,
    VERDICT_FILE,
    complete_local_versions,
    local_version_folders,
)
from serving.versions.signing import verify_signature
from tests.export.exportable import small_network, verdict_digest, write_exportable, write_keys
from tests.serving.conftest import COMMAND
from tests.storage.gcs_server import BUCKET


@pytest.fixture
def model_base(tmp_path):
    return tmp_path / "models" / "lung"


def export(inputs, model_base, **options) -> str:
    options = {"verdict_sha256": verdict_digest(inputs), **options}
    return export_version(**inputs, model_base=str(model_base), model_name="lung", **options).location


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A signed version; tests change only copies of it."""
    folder = tmp_path_factory.mktemp("exported")
    write_keys(folder, "ours")
    inputs = write_exportable(folder, small_network())
    return export(inputs, folder / "models", signing_key=folder / "ours.pem")


@pytest.mark.parametrize("dice", [math.nan, math.inf, -math.inf])
def test_row_37_a_dice_that_is_not_finite_is_refused(tmp_path, model_base, dice):
    inputs = write_exportable(tmp_path, small_network(), value=0.8)
    path = inputs["evaluation"] / VERDICT_FILE
    content = json.loads(path.read_text())
    content["cases"][0]["dice"] = dice  # json writes NaN and Infinity by default
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"not what its scores .*fail"):
        export(inputs, model_base)
    with pytest.raises(InputError, match="no finite value"):
        export(write_exportable(tmp_path / "nan", small_network(), value=dice), model_base)
    assert not model_base.exists()


def test_an_edited_verdict_is_not_exported(tmp_path, model_base):
    inputs = write_exportable(tmp_path, small_network())
    path, digest = inputs["evaluation"] / VERDICT_FILE, verdict_digest(inputs)
    path.write_text(path.read_text().replace('"threshold": 0.4', '"threshold": 0.01'))
    with pytest.raises(InputError, match=r"verdict\.json: .*edited"):
        export(inputs, model_base, verdict_sha256=digest)
    assert not model_base.exists()


@pytest.mark.parametrize("change", [lambda card: card.write_text("# Approved\n"), lambda card: card.unlink()])
def test_a_changed_model_card_is_not_published(tmp_path, model_base, change):
    inputs = write_exportable(tmp_path, small_network())
    change(inputs["evaluation"] / MODEL_CARD_FILE)
    with pytest.raises(InputError, match=rf"{MODEL_CARD_FILE}: .*expected the card that evaluate wrote; run evaluate"):
        export(inputs, model_base)
    assert not model_base.exists()


def test_a_missing_model_is_one_line(tmp_path, model_base):
    inputs = write_exportable(tmp_path, small_network())
    (inputs["model"] / MODEL_FILE).unlink()
    with pytest.raises(InputError, match=rf"{MODEL_FILE}: .*; expected the output of train"):
        export(inputs, model_base)


def test_row_38_a_dice_at_the_limit_passes_and_a_smaller_one_fails(tmp_path):
    for name, value in (("at", 0.7), ("below", 0.7 - 2e-9)):
        inputs = write_exportable(tmp_path / name, small_network(), value=value, limit=0.7)
        digests = {"model_sha256": sha256_of(inputs["model"] / MODEL_FILE), "verdict_sha256": verdict_digest(inputs)}
        if name == "at":
            assert require_pass(inputs["evaluation"] / VERDICT_FILE, **digests).passed
        else:
            with pytest.raises(InputError, match=r"Dice.* 0\.69999\d+.*\b0\.7\b"):
                require_pass(inputs["evaluation"] / VERDICT_FILE, **digests)


EXPORT = """
import sys
from pathlib import Path
from components.export.export import export_version
model, evaluation, shards = map(Path, sys.argv[1:4])
base, digest = sys.argv[4:]
export_version(
    model=model, evaluation=evaluation, shards=shards, model_base=base, verdict_sha256=digest, model_name="lung"
)
"""


def test_row_39_a_killed_export_leaves_no_version(tmp_path, model_base):
    inputs = write_exportable(tmp_path, small_network())
    command = [sys.executable, "-c", EXPORT, *map(str, inputs.values()), str(model_base), verdict_digest(inputs)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        # The graph is written and the parity check is running.
        while not list(model_base.glob(".staging-*/saved_model.pb")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert local_version_folders(model_base) == {}
    assert export(inputs, model_base) == str(model_base / "1")


def test_row_40_an_existing_version_is_never_overwritten(tmp_path, model_base):
    (model_base / "7").mkdir(parents=True)
    (model_base / "7" / "saved_model.pb").write_bytes(b"precious")
    (model_base / "8").mkdir()
    (model_base / "8" / "half").touch()
    assert export(write_exportable(tmp_path, small_network()), model_base).endswith("/9")
    assert (model_base / "7" / "saved_model.pb").read_bytes() == b"precious"
    assert [path.name for path in (model_base / "8").iterdir()] == ["half"]


def test_row_41_an_upload_ends_with_saved_model_pb_and_every_object_has_a_precondition(gcs, tmp_path):
    base = f"gs://{BUCKET}/models/lung"
    gcs.put("models/lung/4/variables/half", b"from an aborted upload")
    assert export(write_exportable(tmp_path, small_network()), base) == f"{base}/5"
    names = [name for name in gcs.names() if name.startswith("models/lung/5/")]
    assert names[-1] == "models/lung/5/saved_model.pb"
    assert "models/lung/5/assets.extra/MANIFEST.sha256" in names
    uploads = [path for method, path in gcs.requests if method == "POST"]
    assert len(uploads) >= len(names)
    assert all("ifGenerationMatch=0" in path for path in uploads)


@keras.saving.register_keras_serializable("tests")
class Unsteady(keras.layers.Layer):
    """Returns different probabilities on every call."""

    def call(self, x):
        return tf.clip_by_value(x + tf.random.uniform(tf.shape(x), -0.02, 0.02), 0, 1)


def test_row_42_a_saved_model_that_differs_from_the_evaluated_one_is_not_published(tmp_path, model_base):
    inputs = write_exportable(tmp_path, small_network(Unsteady()))
    with pytest.raises(InputError, match=r" 0\.0[01]\d*.*nothing was published"):
        export(inputs, model_base)
    assert list(model_base.iterdir()) == []


def test_row_43_tampered_files_are_named(exported, tmp_path):
    version = tmp_path / "1"
    shutil.copytree(exported, version)
    intact = subprocess.run([*COMMAND, "versions", "verify", version], capture_output=True, text=True, timeout=60)
    assert (intact.returncode, intact.stderr) == (0, "")
    weights = next((version / "variables").glob("*.data-*"))
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    tampered = subprocess.run([*COMMAND, "versions", "verify", version], capture_output=True, text=True, timeout=60)
    assert tampered.returncode == 1
    assert f"variables/{weights.name} was changed" in tampered.stderr
    assert tampered.stderr.count("\n") == 1


def test_an_exported_version_has_all_files(exported):
    (version,) = complete_local_versions(Path(exported).parent).values()
    extra = {path.name for path in (version / ASSETS_EXTRA).iterdir()}
    assert extra == {
        *("MANIFEST.sha256", "model.sig", "model_card.md"),
        *("preprocessing.json", "tf_serving_warmup_requests", "verdict.json"),
    }
    verify_signature(version, version.parents[1] / "ours.pub")
    contract = json.loads((version / ASSETS_EXTRA / "preprocessing.json").read_text())
    assert contract["signatures"]["network"]["shape"] == [None, 32, 32]
