"""The container image references that components carry; the only place that reads their environment overrides.

Compile with `TRAIN_IMAGE=<gpu image>` to train on GPUs, and with `DATA_IMAGE=<data image>` so that the steps that read
what others wrote run without TensorFlow; everything else runs on the CPU image.
"""

import os

# The name holds "python" because kfp's local subprocess runner warns about images that do not say so, and the host
# since docker and podman agree on a reference that has one, and on no other.
CPU = os.environ.get("CPU_IMAGE", "localhost/lung-ct-python:cpu")
DATA = os.environ.get("DATA_IMAGE", CPU)
TRAIN = os.environ.get("TRAIN_IMAGE", CPU)
