"""Evaluate a trained model on its test cases and decide whether it may be exported."""
