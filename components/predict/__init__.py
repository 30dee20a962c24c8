"""Predict lesion masks for one part of a batch of scans."""
