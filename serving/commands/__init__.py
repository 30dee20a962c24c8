"""The `lung-ct` subcommands about served models: predict, serve, and the versions of a model base."""
