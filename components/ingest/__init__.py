"""A cohort from wherever it is kept to clean copies, paired by name, with the case table."""
