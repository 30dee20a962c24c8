"""The command line of the embedded server, shared by `lung-ct serve` and `python -m serving.server`."""

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.runtime.errors import InputError
from serving.arguments import add_model, count, port, seconds

DESCRIPTION = (
    "Serve the newest version of a model over TF Serving's gRPC API until interrupted, and load new versions as they "
    "appear in its folder. For development on one machine; in production, run stock tensorflow/serving instead."
)
DEFAULT_PORT = 8500  # TF Serving's own gRPC port


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the server's options to a parser."""
    add = parser.add_mutually_exclusive_group(required=True).add_argument
    add("--model-base", type=Path, metavar="DIR", help="folder with N/saved_model.pb or NAME/N/saved_model.pb")
    add("--model-config-file", type=Path, metavar="FILE", help="TF Serving's models.config; applied at each check")
    add_model(parser)
    add = parser.add_argument
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default: %(default)s)")
    add("--port", type=port, default=DEFAULT_PORT, metavar="N", help="gRPC; 0 picks a free one (default: %(default)s)")
    add("--rest-port", type=port, metavar="N", help="REST and Prometheus metrics, such as 8501 (default: none)")
    add("--tls-certificate", type=Path, metavar="PEM", help="serve over TLS with this certificate")
    add("--tls-key", type=Path, metavar="PEM", help="private key of the certificate")
    add("--client-ca", type=Path, metavar="PEM", help="accept only clients with a certificate signed by this CA")
    add("--require-signature", type=Path, metavar="PEM", help="serve only versions signed by this public key's owner")
    add("--tensor-content", action="store_true", help="like TF Serving's --enable_serialization_as_tensor_content")
    add("--queue", type=count, default=128, metavar="N", help="most requests in the queue (default: %(default)s)")
    add("--batch", type=count, default=32, metavar="N", help="most slices in a batch (default: %(default)s)")
    add("--poll", type=seconds, default=1.0, metavar="S", help="seconds between folder checks (default: %(default)g)")


def run_server(options: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        InputError: The options contradict each other, a port is taken, or no version can be loaded.
    """
    from serving.tls import ServerTls  # imports gRPC
    from serving.versions.layout import find_model_base
    from serving.versions.signing import check_public_key

    if (options.tls_certificate is None) != (options.tls_key is None):
        raise InputError("--tls-certificate and --tls-key go together; give both or none")
    if options.client_ca is not None and options.tls_key is None:
        raise InputError("--client-ca needs TLS; also give --tls-certificate and --tls-key")
    if options.require_signature is not None:
        check_public_key(options.require_signature)
    tls = ServerTls(options.tls_certificate, options.tls_key, options.client_ca) if options.tls_key else None
    if tls is not None:
        tls.problem()  # raises for unusable files, before TensorFlow is imported; the server logs the rest
    base = None if options.model_base is None else find_model_base(options.model_base, options.model)
    _log_to_stderr()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's warnings repeat the errors of requests
    with _suppress_native_log():
        import tensorflow as tf

        from serving.server.batching import BatchLimits
        from serving.server.server import Settings, serve_until_stopped
        from serving.versions.model_config import ModelConfig

        tf.config.list_logical_devices()  # find GPUs at startup instead of at the first request

    settings = Settings(
        models=() if base is None else (ModelConfig(options.model, str(base)),),
        config_file=options.model_config_file,
        host=options.host,
        port=options.port,
        rest_port=options.rest_port,
        tensor_content=options.tensor_content,
        tls=tls,
        public_key=options.require_signature,
        limits=BatchLimits(queue_size=options.queue, batch_slices=options.batch),
        poll_s=options.poll,
    )
    serve_until_stopped(settings)


def _log_to_stderr() -> None:
    """Log to stderr: stdout carries only the lines that announce the addresses."""
    logger = logging.getLogger("serving")
    logger.handlers[:] = [logging.StreamHandler()]
    logger.setLevel(logging.INFO)
    logger.propagate = False


@contextmanager
def _suppress_native_log() -> Iterator[None]:
    """Hide what libraries write to file descriptor 2; show it if the block fails.

    On import, TensorFlow logs CPU instructions and missing GPU drivers before `TF_CPP_MIN_LOG_LEVEL` takes effect.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        except BaseException:
            log.seek(0)
            os.write(stderr, log.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
