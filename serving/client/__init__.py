"""A client for TensorFlow Serving: chest CT scans in, lesion masks out."""

import os

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # gRPC reads it at its import; INFO prints every failed handshake

from serving.client.endpoint import ServingError
from serving.client.segmentation import Prediction, SegmentationClient

__all__ = ["Prediction", "SegmentationClient", "ServingError"]
