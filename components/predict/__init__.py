"""Scans without masks to lesion masks, a table of findings and a page to look through."""
