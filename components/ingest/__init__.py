"""Ingest a cohort from any source: de-identified copies, paired by name, with the case table."""
