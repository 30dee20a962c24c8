"""Validate a cohort: facts about every case, the expectations they must meet, and the report."""

import logging

# Before the library is imported: it logs its internals at INFO, which kfp's executor shows.
logging.getLogger("great_expectations").setLevel(logging.WARNING)
