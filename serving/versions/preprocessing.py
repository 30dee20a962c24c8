"""What a caller must know of a served model's input and output, as data beside the model."""

import json
from pathlib import Path

from components.ct.grid import AIR_HU
from components.ct.intensity import WINDOW_HU
from serving.versions.tensor_names import ANY_SIZE_SIGNATURE, GRID_SIGNATURE, INPUT, MASK, PROBABILITY, THRESHOLD

FILE = Path("assets.extra") / "preprocessing.json"


def write_contract(saved_model: Path, size: int, threshold: float) -> None:
    """Write the preprocessing contract beside a SavedModel."""
    grid = {
        "size": size,
        "resampling": "aspect kept, centered; area average where it shrinks, linear where it grows",
        "padding_hu": AIR_HU,
    }
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
        "grid": grid,
        "window_hu": {"range": list(WINDOW_HU), "applied": "in the graph"},
        "outputs": {
            PROBABILITY: "float32, 0 to 1, of the input's shape",
            MASK: f"uint8, 1 where the probability is at least {threshold!r}",
            THRESHOLD: "float32, the same for each slice",
        },
        "eight_bit_scans": f"0 to 255 stands for {WINDOW_HU[0]:g} to {WINDOW_HU[1]:g} HU; bring them to HU first",
    }
    (saved_model / FILE).parent.mkdir(exist_ok=True)
    (saved_model / FILE).write_text(json.dumps(content, indent=2) + "\n")
