"""Fingerprint a source: the cache key of ingest."""
