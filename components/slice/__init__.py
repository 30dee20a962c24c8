"""Conversion of 3-D cases to 2-D slices: fitted to the grid, split by patient, written as TFRecord shards."""
