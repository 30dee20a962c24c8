"""The summarize-run step: how a cluster run ended."""
