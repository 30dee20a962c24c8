"""`verify`, `sign`, `promote`, `rollback` and `list`: which version is served, and whether its files are sound."""

import argparse
from pathlib import Path
from typing import Any

from components.runtime.errors import InputError
from components.storage.gcs_uri import is_gcs_uri
from serving.arguments import add_model, version
from serving.versions.manifest import verify
from serving.versions.publication import complete_versions
from serving.versions.signing import SIGNATURE, sign, verify_signature


def add_to(commands: Any) -> None:
    """Add the subcommands."""
    check = commands.add_parser(
        "verify",
        help="compare a version's files with its manifest",
        description="Compare every file of a version folder with the SHA-256 that the export wrote down.",
    )
    check.add_argument("version", type=Path, metavar="DIR", help="a version folder, such as models/lung-infection/3")
    check.add_argument("--public-key", type=Path, metavar="PEM", help="also ask for a signature by this key's owner")
    check.set_defaults(run=_verify)
    signing = commands.add_parser(
        "sign",
        help="sign a version's files",
        description="Sign every file of a version folder with an elliptic curve key (needs the extra `signing`).",
    )
    signing.add_argument("version", type=Path, metavar="DIR", help="a version folder")
    signing.add_argument("--key", type=Path, required=True, metavar="PEM", help="the private key")
    signing.set_defaults(run=_sign)
    promote = commands.add_parser(
        "promote",
        help="put a version under a label",
        description="Let a label point at a version, by writing the models.config that TensorFlow Serving follows.",
    )
    _add_what(promote)
    promote.add_argument("--version", type=version, required=True, metavar="N", help="the version")
    _add_change(promote)
    promote.set_defaults(run=_promote)
    rollback = commands.add_parser(
        "rollback",
        help="put the version before back under its label",
        description="Let a label point at the version that it had before its present one was promoted.",
    )
    _add_what(rollback)
    _add_change(rollback)
    rollback.set_defaults(run=_rollback)
    shown = commands.add_parser(
        "list", help="show versions, labels and the ledger", description="Show versions, labels and the ledger."
    )
    _add_what(shown)
    shown.set_defaults(run=_list)


def _add_what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model-base", required=True, metavar="DIR", help="the folder of version folders, or gs://bucket/prefix"
    )
    add_model(parser)
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="the models.config (default: models.config in the folder)"
    )


def _add_change(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--label", default="stable", metavar="LABEL", help="such as canary (default: %(default)s)")
    parser.add_argument("--why", required=True, metavar="TEXT", help="the reason, for the ledger")
    parser.add_argument("--who", metavar="NAME", help="who decided, for the ledger (default: the user)")


def _verify(chosen: argparse.Namespace) -> None:
    files = verify(chosen.version)
    if chosen.public_key is not None:
        verify_signature(chosen.version, chosen.public_key)
    signed = f", signed by the owner of {chosen.public_key}" if chosen.public_key is not None else ""
    print(f"{chosen.version}: {files} files, all as exported{signed}")


def _sign(chosen: argparse.Namespace) -> None:
    verify(chosen.version)
    sign(chosen.version, chosen.key)
    print(f"{chosen.version / SIGNATURE}: written")


def _promote(chosen: argparse.Namespace) -> None:
    labels = _labels(chosen)
    change = labels.promote(chosen.version, chosen.label, chosen.why, chosen.who)
    _tell(labels, change)


def _rollback(chosen: argparse.Namespace) -> None:
    labels = _labels(chosen)
    change = labels.rollback(chosen.label, chosen.why, chosen.who)
    _tell(labels, change)


def _list(chosen: argparse.Namespace) -> None:
    labels = _labels(chosen)
    by_version: dict[int, list[str]] = {number: [] for number in complete_versions(labels.base)}
    for label, number in labels.labels().items():
        by_version.setdefault(number, []).append(label)
    for number, names in sorted(by_version.items()):
        print(f"version {number}  {' '.join(sorted(names)) or '-'}")
    for change in labels.ledger():
        dice = "" if change.test_dice is None else f", test Dice {change.test_dice:.3f}"
        before = "nothing" if change.from_version is None else change.from_version
        print(
            f"{change.when}  {change.action} {change.label}: {before} -> {change.to_version} "
            f"by {change.who}: {change.why}{dice}"
        )


def _labels(chosen: argparse.Namespace) -> Any:
    from serving.versions.labels import Labels

    if chosen.config is None and is_gcs_uri(chosen.model_base):
        raise InputError(f"{chosen.model_base}: is not on this machine; name the models.config to write with --config")
    config = chosen.config or Path(chosen.model_base) / "models.config"
    return Labels(config, chosen.model, chosen.model_base)


def _tell(labels: Any, change: Any) -> None:
    print(f"{labels.config_file}: {change.label} of {change.model} is version {change.to_version}")
