"""The CT domain on plain paths and arrays: cases, volumes, intensity, the network's grid, metrics."""
