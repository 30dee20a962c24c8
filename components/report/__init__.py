"""Self-contained HTML reports: their common frame, plots and slice images."""
