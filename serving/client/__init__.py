"""A client for TensorFlow Serving: chest CT scans in, lesion masks out."""

from serving.client.endpoint import ServingError
from serving.client.segmentation import Prediction, SegmentationClient

__all__ = ["Prediction", "SegmentationClient", "ServingError"]
