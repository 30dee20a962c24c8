"""Check all parameters of a run before its first step reads anything."""
