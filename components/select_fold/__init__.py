"""The shards of one cross-validation fold."""
