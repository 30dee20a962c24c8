"""`lung-ct versions`: list, verify, sign, promote and roll back the versions of a model."""

import argparse
from pathlib import Path
from typing import Any

from components.runtime.errors import InputError
from components.storage.gcs_uri import is_gcs_uri
from serving.arguments import version
from serving.commands.version_labels import add_labels, add_move, promote, rollback, version_labels


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("versions", help="list, verify, sign, promote and roll back the versions of a model")
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Any, text: str) -> Any:
        command = subcommands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        command.set_defaults(run=run)
        return command

    listing = add("list", _list, "list versions, version labels and the ledger of changes")
    add_labels(listing)
    listing.add_argument("--remove-incomplete", action="store_true", help="remove folders that killed exports left")
    verifying = add("verify", _verify, "compare a version's files with its SHA-256 manifest")
    verifying.add_argument("version", type=Path, metavar="DIR", help="version folder, such as models/lung-infection/3")
    verifying.add_argument("--public-key", type=Path, metavar="PEM", help="also require a signature by the key's owner")
    signing = add("sign", _sign, "sign a version's files with an elliptic curve key (needs the extra `signing`)")
    signing.add_argument("version", type=Path, metavar="DIR", help="version folder")
    signing.add_argument("--key", type=Path, required=True, metavar="PEM", help="private key")
    promoting = add(
        "promote", promote, "point a version label at a version, in the models.config of TensorFlow Serving"
    )
    promoting.add_argument("--version", type=version, required=True, metavar="N", help="version number")
    add_move(promoting)
    add_move(add("rollback", rollback, "point a version label back at the version before the present one"))


def _list(arguments: argparse.Namespace) -> None:
    from serving.versions.layout import complete_versions  # imports the client of Cloud Storage

    labels = version_labels(arguments)
    by_version: dict[int, list[str]] = {number: [] for number in complete_versions(labels.base)}
    for label, number in labels.current().items():
        by_version.setdefault(number, []).append(label)
    _show_incomplete(labels.base, arguments.remove_incomplete)
    if not by_version and not is_gcs_uri(labels.base) and not Path(labels.base).is_dir():
        raise InputError(f"{labels.base}: no such folder; expected a model base, the folder of a model's versions")
    if not by_version:
        print(f"{labels.base}: no versions")
    for number, names in sorted(by_version.items()):
        print(f"version {number}  {' '.join(sorted(names)) or '-'}")
    for change in labels.changes():
        dice = "" if change.test_dice is None else f", test Dice {change.test_dice:.3f}"
        before = "none" if change.from_version is None else change.from_version
        print(
            f"{change.when}  {change.action} {change.label}: {before} -> {change.to_version} "
            f"by {change.who}: {change.why}{dice}"
        )


def _show_incomplete(base: str, remove: bool) -> None:
    from serving.versions.publication import ABANDONED_AFTER, find_incomplete

    for folder in find_incomplete(base):
        if folder.is_abandoned and remove:
            folder.remove()
            print(f"{base}/{folder.name}: removed")
            continue
        minutes = ABANDONED_AFTER.total_seconds() / 60
        advice = (
            "a new server of the newest version may not start; remove it with --remove-incomplete"
            if folder.is_abandoned
            else f"an export may still be writing it; it can be removed {minutes:g} minutes after its last change"
        )
        print(f"{base}/{folder.name}  incomplete since {folder.last_write:%Y-%m-%d %H:%M} UTC: {advice}")


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
