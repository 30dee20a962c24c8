"""The frame that every HTML report is set in: one look, everything inlined, nothing fetched."""
