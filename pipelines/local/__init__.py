"""Whole runs on this machine."""
