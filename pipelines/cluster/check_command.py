"""The subcommand `check-cluster`."""

import argparse
import sys
from pathlib import Path
from typing import Any

from pipelines.cluster.commands import add_compile_options, add_credentials, compile_options, connection
from serving.arguments import add_tls


def add_to(commands: Any) -> None:
    """Add the subcommand to argparse's `commands`."""
    parser = commands.add_parser(
        "check-cluster",
        help="check a cluster with small runs of what was deployed, and delete them",
        description="Run the deployed pipelines on synthetic scans beside the real model, serve the result, and delete "
        "everything again. Exits with 1 if a check failed; a note is not a failure.",
    )
    add = parser.add_argument
    add("--host", help="Kubeflow Pipelines API address (default: in-cluster or kubectl's context)")
    add("--kfp-namespace", dest="namespace", help="user namespace on a multi-user Kubeflow")
    add_credentials(parser)
    add("--build", type=Path, default=Path("build"), help="folder with the deployed packages (default: %(default)s)")
    default = "/models/lung-infection"
    add("--model-base", default=default, help="folder of the real model (default: %(default)s)")
    add("--pipeline-root", help="artifact root, such as gs://bucket/runs")
    add("--service-account", help="service account of the runs' pods")
    add("--skip", nargs="*", default=[], choices=["serving"], help="serving: for a cluster without servers")
    add(
        "--namespace",
        dest="serving_namespace",
        default="lung-infection",
        help="namespace of the servers (default: %(default)s)",
    )
    add("--server", nargs="+", default=[], metavar="HOST:PORT", help="all servers (default: their pods)")
    add_tls(parser)
    add("--tls-server-name", default="", metavar="NAME", help="name in the servers' certificate")
    add("--timeout", type=float, default=3600, metavar="SECONDS", help="limit of each run (default: %(default)g)")
    add("--poll", type=float, default=5, metavar="SECONDS", help="default: %(default)g")
    add_compile_options(parser)
    parser.set_defaults(run=_check)


def _check(arguments: argparse.Namespace) -> None:
    from pipelines.cluster.check import CheckSettings, check_cluster
    from pipelines.cluster.check_serving import Servers
    from serving.tls import ClientTls

    servers = None
    if not arguments.skip:
        tls = ClientTls.from_arguments(arguments)
        servers = Servers(arguments.serving_namespace, tuple(arguments.server), tls, arguments.tls_server_name)
    settings = CheckSettings(
        connection(arguments),
        arguments.build,
        arguments.model_base,
        compile_options(arguments),
        servers,
        arguments.pipeline_root,
        arguments.service_account,
        arguments.timeout,
        arguments.poll,
    )
    sys.exit(0 if check_cluster(settings) else 1)
