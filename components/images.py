"""The container image references that components carry; the only place that reads their environment overrides."""

import os

REGISTRY = os.environ.get("REGISTRY", "localhost")
TAG = os.environ.get("IMAGE_TAG", "dev")

# The names hold "python" because kfp's local subprocess runner warns about images whose names do not.
CPU = os.environ.get("CPU_IMAGE", f"{REGISTRY}/lung-ct-python:{TAG}-cpu")
GPU = os.environ.get("GPU_IMAGE", f"{REGISTRY}/lung-ct-python:{TAG}-gpu")

DATA = CPU
TRAIN = GPU if os.environ.get("USE_GPU_IMAGE") == "1" else CPU
