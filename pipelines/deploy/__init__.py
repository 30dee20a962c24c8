"""Deploy images, pipeline versions and model serving to a cluster, and remove serving again."""
