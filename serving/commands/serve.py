"""`lung-ct serve`: the embedded server."""

from typing import Any

from serving.server.command import DESCRIPTION, add_options, run_server


def add_to(commands: Any) -> None:
    """Add the subcommand `serve`."""
    serve = commands.add_parser("serve", help="serve a model on this machine, for development", description=DESCRIPTION)
    add_options(serve)
    serve.set_defaults(run=run_server)
