"""The manifest of a version: the SHA-256 of every file, to detect changed, missing and added files.

The format is that of `sha256sum`: `cd <version> && sha256sum -c assets.extra/MANIFEST.sha256` checks it without this
project. A manifest detects damage, not forgery; to detect forgery, sign the version.
"""

from pathlib import Path

from components.runtime.errors import InputError, join_problems
from components.runtime.files import atomic_write, sha256_of
from serving.versions.layout import ASSETS_EXTRA, MANIFEST_FILE, PREPROCESSING_FILE, SIGNATURE_FILE, VERDICT_FILE

_NOT_LISTED = {MANIFEST_FILE.as_posix(), SIGNATURE_FILE.as_posix()}  # written after the files they cover


def write_manifest(version: Path) -> None:
    """Write the digest of every file of a version folder."""
    with atomic_write(version / MANIFEST_FILE) as temporary:
        # List the files before the temporary file exists, or it would list itself.
        lines = [f"{sha256_of(version / name)}  {name}\n" for name in _files(version)]
        temporary.write_text("".join(lines))


def is_exported(version: Path) -> bool:
    """Whether the export step wrote a version folder, which then has a manifest unless someone removed it."""
    files = MANIFEST_FILE, SIGNATURE_FILE, PREPROCESSING_FILE, ASSETS_EXTRA / VERDICT_FILE
    return any((version / file).exists() for file in files)


def verify(version: Path) -> int:
    """Compare the files of a version folder with its manifest and return their number.

    Raises:
        InputError: The manifest is missing, or files were changed, removed or added; the message names all of them.
    """
    path = version / MANIFEST_FILE
    if not path.is_file():
        raise InputError(f"{version}: has no {MANIFEST_FILE}; expected every file that export wrote; export it again")
    expected: dict[str, str] = {}
    for line in path.read_text(errors="replace").splitlines():
        digest, separator, name = line.partition("  ")
        if not separator or len(digest) != 64:
            raise InputError(f"{path}: line {len(expected) + 1}: expected digest and name; export the model again")
        expected[name] = digest
    files = _files(version)
    problems = [f"{name} is missing" for name in sorted(set(expected) - set(files))]
    problems += [f"{name} was added" for name in sorted(set(files) - set(expected))]
    known = (name for name in files if name in expected)
    problems += [f"{name} was changed" for name in known if sha256_of(version / name) != expected[name]]
    if problems:
        raise InputError(
            f"{version}: files differ from the manifest: {join_problems(problems)}; do not serve it, export it again"
        )
    return len(files)


def _files(version: Path) -> list[str]:
    names = (path.relative_to(version).as_posix() for path in version.rglob("*") if path.is_file())
    return sorted(name for name in names if name not in _NOT_LISTED)
