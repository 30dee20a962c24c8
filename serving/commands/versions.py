"""`lung-ct versions`: list, verify, sign, promote and roll back the versions of a model."""

import argparse
from pathlib import Path
from typing import Any

from components.runtime.errors import InputError
from components.storage.gcs_uri import is_gcs_uri
from serving.arguments import add_model, version


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("versions", help="list, verify, sign, promote and roll back the versions of a model")
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Any, text: str) -> Any:
        command = subcommands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        command.set_defaults(run=run)
        return command

    _add_model_base(add("list", _list, "list versions, version labels and the ledger of changes"))
    verifying = add("verify", _verify, "compare a version's files with its SHA-256 manifest")
    verifying.add_argument("version", type=Path, metavar="DIR", help="version folder, such as models/lung-infection/3")
    verifying.add_argument("--public-key", type=Path, metavar="PEM", help="also require a signature by the key's owner")
    signing = add("sign", _sign, "sign a version's files with an elliptic curve key (needs the extra `signing`)")
    signing.add_argument("version", type=Path, metavar="DIR", help="version folder")
    signing.add_argument("--key", type=Path, required=True, metavar="PEM", help="private key")
    promote = add("promote", _promote, "point a version label at a version, in the models.config of TensorFlow Serving")
    rollback = add("rollback", _rollback, "point a version label back at the version before the present one")
    promote.add_argument("--version", type=version, required=True, metavar="N", help="version number")
    for command in (promote, rollback):
        _add_model_base(command)
        command.add_argument("--label", default="stable", help="version label (default: %(default)s)")
        command.add_argument("--why", required=True, metavar="TEXT", help="reason, for the ledger")
        command.add_argument("--who", metavar="NAME", help="who decided, for the ledger (default: the user)")


def _add_model_base(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model-base", required=True, metavar="DIR", help="folder of versions, or gs://bucket/prefix")
    add_model(parser)
    parser.add_argument("--config", type=Path, metavar="FILE", help="default: models.config in the model base")


def _list(arguments: argparse.Namespace) -> None:
    from serving.versions.layout import complete_versions  # imports the client of Cloud Storage

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
    signature_note = ""
    if arguments.public_key is not None:
        verify_signature(arguments.version, arguments.public_key)
        signature_note = f", signed by the owner of {arguments.public_key}"
    print(f"{arguments.version}: all {files} files match the manifest{signature_note}")


def _sign(arguments: argparse.Namespace) -> None:
    from serving.versions.layout import SIGNATURE_FILE
    from serving.versions.manifest import verify
    from serving.versions.signing import sign

    verify(arguments.version)
    sign(arguments.version, arguments.key)
    print(f"{arguments.version / SIGNATURE_FILE}: written")


def _promote(arguments: argparse.Namespace) -> None:
    labels = _version_labels(arguments)
    _report(labels, labels.promote(arguments.version, arguments.label, why=arguments.why, who=arguments.who))


def _rollback(arguments: argparse.Namespace) -> None:
    labels = _version_labels(arguments)
    _report(labels, labels.rollback(arguments.label, why=arguments.why, who=arguments.who))


def _report(labels: Any, change: Any) -> None:
    print(f"{labels.config_file}: {change.label} of {change.model} is version {change.to_version}")


def _version_labels(arguments: argparse.Namespace) -> Any:
    from serving.versions.labels import VersionLabels  # imports TensorFlow's messages

    base = arguments.model_base
    if arguments.config is None and is_gcs_uri(base):
        raise InputError(f"{base}: in Cloud Storage; expected a local models.config to write; name it with --config")
    return VersionLabels(arguments.config or Path(base) / "models.config", arguments.model, base)
