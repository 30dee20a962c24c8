"""A fingerprint of what a source holds, the cache key of ingest."""
