"""Fail a run whose cohort was refused by validate."""
