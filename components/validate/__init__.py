"""Facts about every case, the expectations they must meet, and the report that a person reads."""

import logging

# Set before the library is imported: it tells of its own workings at INFO, which kfp's executor shows.
logging.getLogger("great_expectations").setLevel(logging.WARNING)
