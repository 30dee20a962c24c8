"""Inputs of the export step: a trained model, its verdict, and slices for the parity check."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from components.evaluate.limits import GateLimits
from components.evaluate.verdict import judge
from components.runtime.files import sha256_of
from components.slice.shards import write_shard
from components.slice.split import Split
from serving.versions.layout import MODEL_CARD_FILE, VERDICT_FILE
from tests.evaluate.synthetic_scores import case_score

SIZE = 32


def small_network(*last: keras.Layer) -> keras.Model:
    """Build a convolutional network with fixed random weights."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((SIZE, SIZE))
    x = keras.layers.Reshape((SIZE, SIZE, 1))(inputs)
    x = keras.layers.Rescaling(1 / 750)(x)
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    x = keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")(x)
    x = keras.layers.Reshape((SIZE, SIZE))(x)
    for layer in last:
        x = layer(x)
    return keras.Model(inputs, x)


def write_exportable(folder: Path, network: keras.Model, *, value: float = 0.8, limit: float = 0.5) -> dict[str, Path]:
    """Write model, evaluation and shards; the verdict is on one case with a Dice of `value`, at least `limit`."""
    model, evaluation, shards = folder / "model", folder / "evaluation", folder / "shards"
    for path in (model, evaluation, shards / "test"):
        path.mkdir(parents=True)
    network.save(model / "model.keras")
    model_sha256 = sha256_of(model / "model.keras")
    card = evaluation / MODEL_CARD_FILE
    card.write_text("# Model card\n")
    verdict = judge([case_score(value)], GateLimits(min_dice=limit), model_sha256=model_sha256, threshold=0.4)
    replace(verdict, model_card_sha256=sha256_of(card)).write(evaluation)
    Split({"train": ["a"], "validation": ["b"], "test": ["case"]}, SIZE, 0).write(shards)
    slices = np.random.default_rng(0).integers(-1000, 300, (5, SIZE, SIZE)).astype(np.int16)
    write_shard(shards / "test" / "case.tfrecord", "case", np.arange(5), slices, np.zeros(slices.shape, np.uint8))
    return {"model": model, "evaluation": evaluation, "shards": shards}


def verdict_digest(inputs: dict[str, Path]) -> str:
    """Return the digest that evaluate gives of the verdict."""
    return sha256_of(inputs["evaluation"] / VERDICT_FILE)


def write_keys(folder, name):
    """Write NAME.pem and NAME.pub, as `openssl ecparam -name prime256v1 -genkey` does."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    (folder / f"{name}.pem").write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    (folder / f"{name}.pub").write_bytes(key.public_key().public_bytes(pem, public))
