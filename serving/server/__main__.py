"""`python -m serving.server`: the embedded server as a process."""

import argparse

from components.runtime.child_process import exit_with_parent
from components.runtime.errors import exit_on_input_error
from serving.server.command import DESCRIPTION, add_options, run_server

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m serving.server", description=DESCRIPTION)
    add_options(parser)
    exit_with_parent()
    with exit_on_input_error():
        run_server(parser.parse_args())
