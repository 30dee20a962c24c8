"""Files that lie elsewhere: in Google Cloud Storage, or behind HTTP."""
