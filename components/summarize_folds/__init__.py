"""The scores of all folds as one table."""
