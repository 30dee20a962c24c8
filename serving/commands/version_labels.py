"""`lung-ct versions promote` and `rollback`: move a version label on running servers."""

import argparse
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from components.runtime.errors import InputError
from components.storage.gcs_uri import is_gcs_uri
from serving.arguments import add_model, add_tls, seconds

_DEFAULT_TIMEOUT_S = 900.0  # TF Serving tries a version that does not load for five minutes before it gives up


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Add the options that locate the versions and the `models.config`."""
    parser.add_argument("--model-base", required=True, metavar="DIR", help="folder of versions, or gs://bucket/prefix")
    add_model(parser)
    parser.add_argument("--config", type=Path, metavar="FILE", help="default: models.config in the model base")


def add_move(parser: argparse.ArgumentParser) -> None:
    """Add the options of a change of a label."""
    add = parser.add_argument
    add_labels(parser)
    add("--label", default="stable", help="version label (default: %(default)s)")
    add("--why", required=True, metavar="TEXT", help="reason, for the ledger")
    add("--who", metavar="NAME", help="who decided, for the ledger (default: the user)")
    add(
        "--server",
        nargs="+",
        action="extend",
        default=[],
        metavar="HOST:PORT",
        help="gRPC addresses of all servers that follow the file; a name means all its addresses",
    )
    add("--namespace", metavar="NAME", help="apply the file to this Kubernetes namespace; ask its pods by default")
    add("--no-server", action="store_true", help="no server follows the file yet: move the label without asking any")
    add("--wait", action="store_true", help="do all steps, waiting for the servers (default: the next step)")
    help_text = "with --wait: limit of each step (default: %(default)g)"
    add("--timeout", type=seconds, default=_DEFAULT_TIMEOUT_S, metavar="SECONDS", help=help_text)
    add_tls(parser)
    add("--tls-server-name", default="", metavar="NAME", help="name in the servers' certificate (default: the host)")


def promote(arguments: argparse.Namespace) -> None:
    """Run `versions promote`."""
    from serving.client import promotion

    labels = version_labels(arguments)
    with _replicas(arguments, labels) as replicas:
        promotion.promote(labels, arguments.version, arguments.label, replicas=replicas, **_options(arguments))


def rollback(arguments: argparse.Namespace) -> None:
    """Run `versions rollback`."""
    from serving.client import promotion

    labels = version_labels(arguments)
    with _replicas(arguments, labels) as replicas:
        promotion.rollback(labels, arguments.label, replicas=replicas, **_options(arguments))


def version_labels(arguments: argparse.Namespace) -> Any:
    """Build the `VersionLabels` of the options of `add_labels`."""
    from serving.versions.labels import VersionLabels  # imports TensorFlow's messages

    base = arguments.model_base
    if arguments.config is None and is_gcs_uri(base):
        raise InputError(f"{base}: in Cloud Storage; expected a local models.config to write; name it with --config")
    return VersionLabels(arguments.config or Path(base) / "models.config", arguments.model, base)


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"why": arguments.why, "who": arguments.who, "timeout_s": arguments.timeout if arguments.wait else 0.0}


def _replicas(arguments: argparse.Namespace, labels: Any) -> AbstractContextManager[Any]:
    """Find the servers that follow the file; None without --server and --namespace."""
    from serving.client.kubectl import ClusterReplicas
    from serving.client.replicas import Replicas
    from serving.tls import ClientTls

    if (base := labels.serving_base()) != labels.base:
        print(f"{labels.base}: versions are verified here; the servers load them from {base}")
    has_servers = bool(arguments.server or arguments.namespace)
    if has_servers and arguments.no_server:
        raise InputError("--no-server excludes --server and --namespace; give one of them")
    if not has_servers:
        current = labels.current().get(arguments.label)
        if current is not None and current != getattr(arguments, "version", None) and not arguments.no_server:
            raise InputError(
                f"{labels.config_file}: label {arguments.label} is in use, and servers refuse a version that they have "
                "not loaded; name them with --server or --namespace, or give --no-server if none follows the file"
            )
        return nullcontext()
    connection = tuple(arguments.server), ClientTls.from_arguments(arguments), arguments.tls_server_name
    return ClusterReplicas(arguments.namespace, *connection) if arguments.namespace else Replicas(*connection)
