"""Fail a run if validate refused its cohort."""
