"""Assign the patients of a cohort to folds."""
