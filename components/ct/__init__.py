"""CT data on plain paths and arrays: cases, volumes, masks, lesions, the network grid, and metrics."""
