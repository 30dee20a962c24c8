"""Compiling for a Kubeflow cluster, and submitting runs to it."""
