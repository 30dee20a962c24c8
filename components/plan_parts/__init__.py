"""Divide a batch of scans into parts that run in parallel."""
