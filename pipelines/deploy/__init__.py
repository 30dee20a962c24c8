"""Images, pipeline versions and serving, brought to a cluster and removed from it."""
