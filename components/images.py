"""The container image references that components carry; the only place that reads their environment overrides.

Compile with `TRAIN_IMAGE=<gpu image>` to train on GPUs; everything else runs on the CPU image.
"""

import os

# The name holds "python" because kfp's local subprocess runner warns about images that do not say so.
CPU = os.environ.get("CPU_IMAGE", "lung-ct-python:cpu")
TRAIN = os.environ.get("TRAIN_IMAGE", CPU)
