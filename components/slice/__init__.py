"""3-D cases to 2-D network slices: fit to the grid, split by patient, written as TFRecord shards."""
