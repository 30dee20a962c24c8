"""A served model and those who call it: client, command line, and a server for one machine."""
