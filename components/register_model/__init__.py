"""Register an exported version in Kubeflow's Model Registry."""
