"""A client of TensorFlow Serving: scans in, lesion masks out."""
