"""Collect the predictions of all parts: masks, a table, a gallery."""
