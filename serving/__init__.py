"""Serve exported models: version folders, the client, the embedded server, and their commands."""
