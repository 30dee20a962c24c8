"""Kubeflow components, one folder per step, over shared packages for CT data, reports, storage and processes."""

import os

# Silences TensorFlow's notices on CPU features and missing CUDA drivers, and usage statistics of Great Expectations.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")
