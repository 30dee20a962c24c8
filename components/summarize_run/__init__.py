"""Summarize how a run on a cluster ended."""
