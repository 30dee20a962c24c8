"""Facts about every case, the expectations they must meet, and the report that a person reads."""
