"""Compile pipelines for a Kubeflow cluster, and run them there."""
