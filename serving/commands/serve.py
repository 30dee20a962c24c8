"""`serve`: the embedded server."""

import argparse
from pathlib import Path
from typing import Any

from components.runtime.errors import InputError
from serving.commands.arguments import add_model, count, port, seconds

DEFAULT_PORT = 8500  # TF Serving's own gRPC port


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    serve = commands.add_parser(
        "serve",
        help="serve a model on this machine, for development",
        description="Serve the newest version of a model over TF Serving's gRPC API, until interrupted, and follow "
        "its folder: new versions are taken over while it runs. For one machine; production runs stock "
        "tensorflow/serving over the same folder.",
    )
    serve.set_defaults(run=_serve)
    what = serve.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--model-base",
        type=Path,
        metavar="DIR",
        help="the folder of version folders (DIR/1/saved_model.pb), or of DIR/NAME/1/saved_model.pb",
    )
    what.add_argument(
        "--model-config-file",
        type=Path,
        metavar="FILE",
        help="a models.config of TF Serving, such as `promote` writes; followed while the server runs",
    )
    add_model(serve)
    _add_addresses(serve)
    _add_limits(serve)


def _add_addresses(serve: argparse.ArgumentParser) -> None:
    serve.add_argument(
        "--port", type=port, default=DEFAULT_PORT, metavar="N", help="gRPC; 0 takes a free one (default: %(default)s)"
    )
    serve.add_argument(
        "--rest-port", type=port, metavar="N", help="REST and Prometheus metrics, such as 8501 (default: none)"
    )
    serve.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default: %(default)s)"
    )
    serve.add_argument("--tls-certificate", type=Path, metavar="PEM", help="serve with TLS, showing this certificate")
    serve.add_argument("--tls-key", type=Path, metavar="PEM", help="its private key")
    serve.add_argument("--client-ca", type=Path, metavar="PEM", help="let in only clients that this authority signed")


def _add_limits(serve: argparse.ArgumentParser) -> None:
    serve.add_argument(
        "--tensor-content",
        action="store_true",
        help="answer tensors as blocks of bytes, as TF Serving's --enable_serialization_as_tensor_content does",
    )
    serve.add_argument(
        "--queue",
        type=count,
        default=128,
        metavar="N",
        help="requests that may wait; one more is answered RESOURCE_EXHAUSTED (default: %(default)s)",
    )
    serve.add_argument(
        "--batch", type=count, default=32, metavar="N", help="slices computed at once (default: %(default)s)"
    )
    serve.add_argument(
        "--poll",
        type=seconds,
        default=1.0,
        metavar="SECONDS",
        help="how often the folders are looked at for new versions (default: %(default)g)",
    )


def _serve(chosen: argparse.Namespace) -> None:
    from serving.server.native_log import suppress_native_log
    from serving.tls import ServerTls
    from serving.versions.layout import model_base

    if (chosen.tls_certificate is None) != (chosen.tls_key is None):
        raise InputError("--tls-certificate and --tls-key go together; give both or none")
    if chosen.client_ca is not None and chosen.tls_key is None:
        raise InputError("--client-ca asks clients for certificates: give the server's own by --tls-certificate")
    tls = ServerTls(chosen.tls_certificate, chosen.tls_key, chosen.client_ca) if chosen.tls_key else None
    base = None if chosen.model_base is None else model_base(chosen.model_base, chosen.model)
    with suppress_native_log():
        import tensorflow as tf

        from serving.server.batching import BatchLimits
        from serving.server.server import Settings, serve_until_stopped
        from serving.versions.model_config import ModelConfig

        tf.config.list_logical_devices()  # looks for GPUs now, and not with the first request

    settings = Settings(
        models=() if base is None else (ModelConfig(chosen.model, str(base)),),
        config_file=chosen.model_config_file,
        host=chosen.host,
        port=chosen.port,
        rest_port=chosen.rest_port,
        tensor_content=chosen.tensor_content,
        tls=tls,
        limits=BatchLimits(waiting=chosen.queue, slices=chosen.batch),
        poll_s=chosen.poll,
    )
    serve_until_stopped(settings)
