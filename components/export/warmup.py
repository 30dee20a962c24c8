"""Requests that TensorFlow Serving answers before it shows a version, so that no user pays for the first call."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

from components.ct.grid import AIR_HU
from serving.versions.tensor_names import ANY_SIZE_SIGNATURE, GRID_SIGNATURE, INPUT

_FILE = Path("assets.extra") / "tf_serving_warmup_requests"  # the name and place that TF Serving looks for
_FULL_SLICE = 512  # edge of a CT slice as scanners write it


def write_warmup_requests(
    saved_model: Path, model_name: str, size: int, batch_sizes: tuple[int, ...] = (1, 32)
) -> None:
    """Write a `network` request for each batch size and one `serving_default` request beside the SavedModel."""
    path = saved_model / _FILE
    path.parent.mkdir(exist_ok=True)
    requests = [(GRID_SIGNATURE, (batch, size, size)) for batch in batch_sizes]
    requests.append((ANY_SIZE_SIGNATURE, (1, _FULL_SLICE, _FULL_SLICE)))
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, shape in requests:
            request = predict_pb2.PredictRequest(
                model_spec=model_pb2.ModelSpec(name=model_name, signature_name=signature),
                inputs={INPUT: tf.make_tensor_proto(np.full(shape, AIR_HU, np.int16))},
            )
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
