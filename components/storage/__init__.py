"""Remote files: Google Cloud Storage, HTTP downloads, and zip archives."""
