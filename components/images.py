"""Container images of the components, and their overrides by environment variables.

Compile with `TRAIN_IMAGE=<GPU image>` to train on GPUs, and with `DATA_IMAGE=<data image>` for data steps without
TensorFlow; all other steps run on the CPU image.
"""

import os

# kfp's subprocess runner warns about names without "python"; docker and podman agree only on references with a host.
CPU = os.environ.get("CPU_IMAGE", "localhost/lung-ct-python:cpu")
DATA = os.environ.get("DATA_IMAGE", CPU)
TRAIN = os.environ.get("TRAIN_IMAGE", CPU)
