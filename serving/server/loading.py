"""A version folder into memory: its files verified, its warm-up requests answered, before any user's request."""

from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.server.request_tensors import arrays_from_protos, check_names
from serving.versions.saved_model import DEFAULT_SIGNATURE, SavedModel, load_verified

_WARMUP = Path("assets.extra") / "tf_serving_warmup_requests"


def load_version(folder: Path) -> SavedModel:
    """Load a version.

    Raises:
        Exception: Its files are not those of its manifest, TensorFlow cannot load them, or a warm-up fails.
    """
    model = load_verified(folder)
    if (folder / _WARMUP).is_file():
        _warm_up(model, folder / _WARMUP)
    return model


def _warm_up(model: SavedModel, requests: Path) -> None:
    """Run the recorded Predict requests; other kinds of record are for other kinds of model."""
    for record in tf.data.TFRecordDataset(str(requests)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if log.WhichOneof("log_type") != "predict_log":
            continue
        request = log.predict_log.request
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        signature = model.signature(name)
        check_names(signature, request.inputs, ())
        model.run(name, arrays_from_protos(signature, request.inputs))
