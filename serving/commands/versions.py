"""`lung-ct versions`: list, verify, sign, promote and roll back the versions of a model."""

import argparse
from pathlib import Path
from typing import Any

from components.runtime.errors import InputError
from components.storage.gcs_uri import is_gcs_uri
from serving.arguments import add_model, version

DEFAULT_LABEL = "stable"


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("versions", help="list, verify, sign, promote and roll back the versions of a model")
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Any, help: str) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = subcommands.add_parser(
            name, help=help, description=f"{help[0].upper()}{help[1:]}."
        )
        command.set_defaults(run=run)
        return command

    _add_model_base(add("list", _list, "list versions, version labels and the ledger of changes"))
    verify = add("verify", _verify, "compare a version's files with its SHA-256 manifest")
    verify.add_argument("version", type=Path, metavar="DIR", help="a version folder, such as models/lung-infection/3")
    verify.add_argument("--public-key", type=Path, metavar="PEM", help="also require a signature by this key's owner")
    sign = add("sign", _sign, "sign a version's files with an elliptic curve key (needs the extra `signing`)")
    sign.add_argument("version", type=Path, metavar="DIR", help="a version folder")
    sign.add_argument("--key", type=Path, required=True, metavar="PEM", help="the private key")
    promote = add("promote", _promote, "point a version label at a version, in the models.config of TensorFlow Serving")
    _add_model_base(promote)
    promote.add_argument("--version", type=version, required=True, metavar="N", help="the version")
    _add_change(promote)
    rollback = add("rollback", _rollback, "point a version label back at the version before the present one")
    _add_model_base(rollback)
    _add_change(rollback)


def _add_model_base(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model-base", required=True, metavar="DIR", help="the folder of version folders, or gs://bucket/prefix"
    )
    add_model(parser)
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="the models.config (default: models.config in the folder)"
    )


def _add_change(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--label", default=DEFAULT_LABEL, metavar="LABEL", help="version label, such as canary (default: %(default)s)"
    )
    parser.add_argument("--why", required=True, metavar="TEXT", help="the reason, for the ledger")
    parser.add_argument("--who", metavar="NAME", help="who decided, for the ledger (default: the user)")


def _list(arguments: argparse.Namespace) -> None:
    from serving.versions.layout import complete_versions

    labels = _version_labels(arguments)
    by_version: dict[int, list[str]] = {number: [] for number in complete_versions(labels.base)}
    for label, number in labels.current().items():
        by_version.setdefault(number, []).append(label)
    for number, names in sorted(by_version.items()):
        print(f"version {number}  {' '.join(sorted(names)) or '-'}")
    for change in labels.changes():
        dice = "" if change.test_dice is None else f", test Dice {change.test_dice:.3f}"
        before = "none" if change.from_version is None else change.from_version
        print(
            f"{change.when}  {change.action} {change.label}: {before} -> {change.to_version} "
            f"by {change.who}: {change.why}{dice}"
        )


def _verify(arguments: argparse.Namespace) -> None:
    from serving.versions.manifest import verify
    from serving.versions.signing import verify_signature

    files = verify(arguments.version)
    signed = ""
    if arguments.public_key is not None:
        verify_signature(arguments.version, arguments.public_key)
        signed = f", signed by the owner of {arguments.public_key}"
    print(f"{arguments.version}: all {files} files match the manifest{signed}")


def _sign(arguments: argparse.Namespace) -> None:
    from serving.versions.layout import SIGNATURE
    from serving.versions.manifest import verify
    from serving.versions.signing import sign

    verify(arguments.version)
    sign(arguments.version, arguments.key)
    print(f"{arguments.version / SIGNATURE}: written")


def _promote(arguments: argparse.Namespace) -> None:
    labels = _version_labels(arguments)
    _report(labels, labels.promote(arguments.version, arguments.label, arguments.why, arguments.who))


def _rollback(arguments: argparse.Namespace) -> None:
    labels = _version_labels(arguments)
    _report(labels, labels.rollback(arguments.label, arguments.why, arguments.who))


def _report(labels: Any, change: Any) -> None:
    print(f"{labels.config_file}: {change.label} of {change.model} is version {change.to_version}")


def _version_labels(arguments: argparse.Namespace) -> Any:
    from serving.versions.labels import VersionLabels

    if arguments.config is None and is_gcs_uri(arguments.model_base):
        raise InputError(
            f"{arguments.model_base}: in Cloud Storage; expected a local models.config to write; name it with --config"
        )
    config = arguments.config or Path(arguments.model_base) / "models.config"
    return VersionLabels(config, arguments.model, arguments.model_base)
