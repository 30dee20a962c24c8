"""Segment a scan with a served model, or serve a model on this machine."""

import argparse
import sys
from pathlib import Path

from components.ct.errors import told_in_one_line
from components.ct.intensity import Intensity

DEFAULT_MODEL = "lung-infection"
DEFAULT_PORT = 8500  # TF Serving's own gRPC port


def main(arguments: list[str] | None = None) -> None:
    """Run a subcommand; a user's mistake ends in one line and exit status 1."""
    chosen = _parser().parse_args(arguments)
    try:
        with told_in_one_line():
            chosen.run(chosen)
    except KeyboardInterrupt:
        sys.exit(130)  # 128 + SIGINT, as shells report it


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serving.cli", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_predict(commands)
    _add_serve(commands)
    return parser


def _add_predict(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    predict = commands.add_parser(
        "predict",
        help="segment a scan with a served model",
        description="Send a chest CT to a server that speaks TF Serving's gRPC API and write the lesion mask "
        "as NIfTI, with the scan's own shape and affine.",
    )
    predict.set_defaults(run=_predict)
    predict.add_argument("scan", type=Path, metavar="SCAN", help="the CT: .nii or .nii.gz, in HU or 8-bit windowed")
    predict.add_argument(
        "-o", "--output", type=Path, required=True, metavar="MASK", help="the mask to write: 1 lesion, 0 none"
    )
    predict.add_argument(
        "--probability", type=Path, metavar="FILE", help="also write the lesion probability of each voxel"
    )
    predict.add_argument("--server", required=True, metavar="HOST:PORT", help="the server's gRPC address")
    predict.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME", help="default: %(default)s")
    predict.add_argument("--version", type=version, metavar="N", help="model version (default: the newest)")
    predict.add_argument(
        "--timeout",
        type=seconds,
        default=60.0,
        metavar="SECONDS",
        help="what one request of some dozen slices may take, retries included (default: %(default)g)",
    )
    predict.add_argument("--force", action="store_true", help="overwrite outputs that exist")


def _add_serve(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    serve = commands.add_parser(
        "serve",
        help="serve a model on this machine, for development",
        description="Serve the newest version of a model over TF Serving's gRPC API, until interrupted. "
        "For one machine; production runs stock tensorflow/serving over the same folder.",
    )
    serve.set_defaults(run=_serve)
    serve.add_argument(
        "--model-base",
        type=Path,
        required=True,
        metavar="DIR",
        help="the folder of version folders (DIR/1/saved_model.pb), or of DIR/NAME/1/saved_model.pb",
    )
    serve.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME", help="default: %(default)s")
    serve.add_argument(
        "--port", type=port, default=DEFAULT_PORT, metavar="N", help="0 takes a free one (default: %(default)s)"
    )
    serve.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default: %(default)s)"
    )
    serve.add_argument(
        "--tensor-content",
        action="store_true",
        help="answer tensors as blocks of bytes, as TF Serving's --enable_serialization_as_tensor_content does",
    )


def _predict(chosen: argparse.Namespace) -> None:
    from serving.client import SegmentationClient
    from serving.scan_files import check_outputs, segment_file

    outputs = [path for path in (chosen.output, chosen.probability) if path is not None]
    check_outputs(chosen.scan, outputs, chosen.force)
    with SegmentationClient(chosen.server, chosen.model, version=chosen.version, timeout_s=chosen.timeout) as client:
        found = segment_file(client, chosen.scan, chosen.output, chosen.probability)
    if found.intensity is Intensity.WINDOWED:
        print("note: the scan is 8-bit; its numbers were taken as HU from -1250 to 250")
    answered = f"{chosen.model} version {found.version}" if found.version is not None else chosen.model
    print(
        f"{chosen.output}: {found.lesion_ml:.1f} mL of lesion in {found.slices_affected} of {found.slices} "
        f"slices, by {answered}"
    )


def _serve(chosen: argparse.Namespace) -> None:
    from serving.quiet import native_notes_held_back
    from serving.version_folders import model_base

    base = model_base(chosen.model_base, chosen.model)
    with native_notes_held_back():
        import tensorflow as tf

        from serving.server import serve_until_stopped

        tf.config.list_logical_devices()  # looks for GPUs now, and not with the first request

    serve_until_stopped(base, chosen.model, chosen.port, chosen.host, chosen.tensor_content)


def port(text: str) -> int:
    """Read a port from the command line."""
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{number} is no port; expected 0 to 65535")
    return number


def version(text: str) -> int:
    """Read a model version from the command line."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is no version; expected 0 or more")
    return number


def seconds(text: str) -> float:
    """Read a time to wait from the command line."""
    number = float(text)
    if not 0 < number < 86_400:
        raise argparse.ArgumentTypeError(f"{text} is no time to wait; expected more than 0 seconds")
    return number


if __name__ == "__main__":
    main()
