"""Stop a run whose cohort failed validation."""
