"""Cross-validation by patient: a cohort's shards fold by fold, and the folds' scores as one table."""
