"""Kubeflow components, one folder for each step, over a shared CT domain (`ct`).

Importing this package sets how quiet the libraries below it are: TensorFlow's notices on CPU features and
missing CUDA drivers, and Great Expectations' usage statistics. A value already in the environment wins.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")
