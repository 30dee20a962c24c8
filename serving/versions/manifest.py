"""The SHA-256 of every file of a version, so that a changed, missing or added file is noticed.

The format is that of `sha256sum`: `cd <version> && sha256sum -c assets.extra/MANIFEST.sha256` checks it without
this project. It tells damage from soundness; against a forger who writes a new manifest, sign the version.
"""

from pathlib import Path

from components.runtime.errors import InputError, join_problems
from components.runtime.files import atomic_write, sha256_of
from serving.versions.signing import SIGNATURE

MANIFEST = Path("assets.extra") / "MANIFEST.sha256"
_NOT_LISTED = {MANIFEST.as_posix(), SIGNATURE.as_posix()}  # what is written after the manifest


def write_manifest(version: Path) -> None:
    """List every file of a version folder with its digest."""
    with atomic_write(version / MANIFEST) as temporary:
        # Before the temporary file is there, else it would list itself.
        lines = [f"{sha256_of(version / name)}  {name}\n" for name in _files(version)]
        temporary.write_text("".join(lines))


def verify(version: Path) -> int:
    """Compare a version folder with its manifest, and give the number of files.

    Raises:
        InputError: There is no manifest, or a file differs, is missing or stands in it too much; all are named.
    """
    path = version / MANIFEST
    if not path.is_file():
        raise InputError(f"{version}: has no {MANIFEST}; expected a version folder that the export step wrote")
    expected: dict[str, str] = {}
    for line in path.read_text().splitlines():
        digest, separator, name = line.partition("  ")
        if not separator or len(digest) != 64:
            raise InputError(f"{path}: line {len(expected) + 1} is no digest and name; export the model again")
        expected[name] = digest
    found = _files(version)
    problems = [f"{name} is missing" for name in sorted(set(expected) - set(found))]
    problems += [f"{name} was added" for name in sorted(set(found) - set(expected))]
    problems += [
        f"{name} was changed" for name in found if expected.get(name, "") not in ("", sha256_of(version / name))
    ]
    if problems:
        raise InputError(
            f"{version}: is not what was exported: {join_problems(problems)}; do not serve it, export it again"
        )
    return len(found)


def _files(version: Path) -> list[str]:
    names = (path.relative_to(version).as_posix() for path in version.rglob("*") if path.is_file())
    return sorted(name for name in names if name not in _NOT_LISTED)
