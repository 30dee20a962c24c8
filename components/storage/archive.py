"""Zip archives from outside, unpacked only where nothing in them can do harm."""

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from components.runtime.errors import InputError
from components.runtime.files import atomic_write

MAX_BYTES = 16 << 30  # unpacked; the 20-case set's largest archive holds 1.1 GB
MAX_RATIO = 100  # unpacked to packed; volumes are compressed already, so that honest archives stay near 1
_ALWAYS_ALLOWED_BYTES = 16 << 20  # small archives of empty masks compress better than that
_MAX_MEMBERS = 100_000
_BLOCK_BYTES = 1 << 20
_ENCRYPTED = 0x1  # in a member's flag bits (PKWARE APPNOTE 4.4.4)


def extract_zip(
    archive: Path,
    folder: Path,
    suffixes: tuple[str, ...],
    *,
    max_bytes: int = MAX_BYTES,
    max_ratio: float = MAX_RATIO,
) -> None:
    """Unpack an archive's files that end in one of `suffixes` into `folder`, whole or not at all.

    Names are judged before anything is written; bytes are counted while they stream, whatever the archive declares.

    Raises:
        InputError: no zip, damaged, encrypted, with a name that leads elsewhere or a link, or larger than allowed.
    """
    try:
        with zipfile.ZipFile(archive) as opened, atomic_write(folder) as temporary:
            temporary.mkdir()
            members = _safe_members(archive, opened.infolist())
            most_bytes = min(max_bytes, max(_ALWAYS_ALLOWED_BYTES, int(archive.stat().st_size * max_ratio)))
            left = most_bytes
            for member in members:
                if member.filename.lower().endswith(suffixes):
                    left = _extract(opened, member, temporary / member.filename, left)
                if left < 0:
                    raise InputError(
                        f"{archive.name}: unpacks to more than {most_bytes / 1e6:,.0f} MB at {member.filename}, "
                        "far beyond what scans need; fetch the archive again from its publisher"
                    )
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise InputError(f"{archive.name}: is no zip archive that can be read ({error}); fetch it again") from error


def _safe_members(archive: Path, members: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """The files among an archive's members, once every member is found harmless."""
    if len(members) > _MAX_MEMBERS:
        raise InputError(f"{archive.name}: holds {len(members):,} members; expected {_MAX_MEMBERS:,} at most")
    seen: set[str] = set()
    for member in members:
        reason = _rejection_reason(member)
        if not reason and member.filename.casefold() in seen:
            reason = "stands in it twice"
        if reason:
            raise InputError(f"{archive.name}: member {member.orig_filename!r} {reason}; nothing was unpacked")
        seen.add(member.filename.casefold())
    return [member for member in members if not member.is_dir()]


def _rejection_reason(member: zipfile.ZipInfo) -> str:
    name, kind = member.orig_filename, stat.S_IFMT(member.external_attr >> 16)
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or PureWindowsPath(name).root:
        return "has an absolute path"
    if ".." in PurePosixPath(name).parts or ".." in PureWindowsPath(name).parts:
        return "leads out of the folder"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if member.flag_bits & _ENCRYPTED:
        return "is encrypted"
    return ""


def _extract(opened: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, left: int) -> int:
    """Unpack one member; give how many of the `left` bytes remain, negative where they did not suffice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(member) as packed, path.open("wb") as file:
        while left >= 0 and (block := packed.read(_BLOCK_BYTES)):
            left -= len(block)
            if left >= 0:
                file.write(block)
    return left
