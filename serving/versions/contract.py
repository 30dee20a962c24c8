"""The contract between an exported model and its callers: names of signatures and tensors, and the preprocessing."""

import json
from pathlib import Path

from components.ct.grid import AIR_HU
from components.ct.intensity import WINDOW_HU

GRID_SIGNATURE = "network"  # slices on the network's own grid
ANY_SIZE_SIGNATURE = "serving_default"  # slices of any size
INPUT = "slices_hu"
PROBABILITY = "lesion_probability"
MASK = "lesion_mask"
THRESHOLD = "threshold"
# In a request, a smaller slice than the network's grid counted as one grid: 1,024 slices of 512×512. Twice as many
# would exceed the 2 GiB of a gRPC message in the reply (5 bytes per pixel).
MAX_PIXELS = 1 << 28


def write_contract(saved_model: Path, size: int, threshold: float) -> None:
    """Write the contract as JSON beside a SavedModel whose network has a `size`×`size` grid."""
    from serving.versions.layout import (
        PREPROCESSING_FILE,  # imports the Cloud Storage client, which callers do not need
    )

    slices = {
        "name": INPUT,
        "dtype": "int16",
        "unit": "HU",
        "axes": "slice, row from anterior to posterior, column from the patient's right to the left",
    }
    content = {
        "signatures": {
            ANY_SIZE_SIGNATURE: {**slices, "shape": [None, None, None], "fit_to_grid": "in the graph"},
            GRID_SIGNATURE: {**slices, "shape": [None, size, size], "fit_to_grid": "by the caller"},
        },
        "grid": {
            "size": size,
            "resampling": "aspect kept, centered; area average where it shrinks, linear where it grows",
            "padding_hu": AIR_HU,
        },
        "window_hu": {"range": list(WINDOW_HU), "applied": "in the graph"},
        "outputs": {
            PROBABILITY: "float32, 0 to 1, of the input's shape",
            MASK: f"uint8, 1 where the probability is at least {threshold!r}",
            THRESHOLD: "float32, the same for each slice",
        },
        "eight_bit_scans": f"0 to 255 means {WINDOW_HU[0]:g} to {WINDOW_HU[1]:g} HU; convert to HU first",
    }
    path = saved_model / PREPROCESSING_FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")
