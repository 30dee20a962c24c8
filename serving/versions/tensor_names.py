"""What the exported signatures call their tensors: one list for the export, its clients and the checks."""

GRID_SIGNATURE = "network"  # slices on the network's own grid
ANY_SIZE_SIGNATURE = "serving_default"  # slices of any size
INPUT = "slices_hu"
PROBABILITY = "lesion_probability"
MASK = "lesion_mask"
THRESHOLD = "threshold"
