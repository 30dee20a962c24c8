"""A trained model to a verdict: how it does on scans it never saw, on their own grid, and a report of it."""
