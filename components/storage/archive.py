"""Safe extraction of untrusted zip archives."""

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from components.runtime.errors import InputError
from components.runtime.files import atomic_folder

MAX_BYTES = 16 << 30  # unpacked; the largest archive of the 20-case set holds 1.1 GB
MAX_RATIO = 100  # unpacked to packed; volumes are compressed already, so legitimate archives stay near 1
_ALWAYS_ALLOWED_BYTES = 16 << 20  # small archives of empty masks compress better
_MAX_MEMBERS = 100_000
_BLOCK_BYTES = 1 << 20
_ENCRYPTED = 0x1  # general purpose flag bit 0 (PKWARE APPNOTE 4.4.4)


def extract_zip(
    archive: Path, folder: Path, suffixes: tuple[str, ...], *, max_bytes: int = MAX_BYTES, max_ratio: float = MAX_RATIO
) -> None:
    """Extract the members with one of the `suffixes` into `folder`, all or none.

    Names are checked before anything is written. Size limits apply to the actual bytes, not the declared sizes.

    Raises:
        InputError: not a zip archive, damaged, encrypted, an unsafe path or a link, or larger than the limits.
    """
    try:
        with zipfile.ZipFile(archive) as zip_file, atomic_folder(folder) as temporary:
            members = _safe_members(archive, zip_file.infolist())
            limit_bytes = min(max_bytes, max(_ALWAYS_ALLOWED_BYTES, int(archive.stat().st_size * max_ratio)))
            remaining_bytes = limit_bytes
            for member in members:
                if member.filename.lower().endswith(suffixes):
                    remaining_bytes = _extract(zip_file, member, temporary / member.filename, remaining_bytes)
                if remaining_bytes < 0:
                    raise InputError(
                        f"{archive.name}: unpacks to more than {limit_bytes / 1e6:,.0f} MB at {member.filename}; "
                        "expected only scans; download the archive again from its publisher"
                    )
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise InputError(f"{archive.name}: not a readable zip archive ({error}); download it again") from error


def _safe_members(archive: Path, members: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """Return the files among the members after checking all of them."""
    if len(members) > _MAX_MEMBERS:
        raise InputError(f"{archive.name}: holds {len(members):,} members; expected {_MAX_MEMBERS:,} at most")
    names: set[str] = set()
    for member in members:
        reason = _rejection_reason(member)
        if not reason and member.filename.casefold() in names:
            reason = "is a duplicate"
        if reason:
            raise InputError(f"{archive.name}: member {member.orig_filename!r} {reason}; nothing was unpacked")
        names.add(member.filename.casefold())
    return [member for member in members if not member.is_dir()]


def _rejection_reason(member: zipfile.ZipInfo) -> str | None:
    name, kind = member.orig_filename, stat.S_IFMT(member.external_attr >> 16)
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or PureWindowsPath(name).root:
        return "has an absolute path"
    if ".." in PurePosixPath(name).parts or ".." in PureWindowsPath(name).parts:
        return "leads out of the folder"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    return "is encrypted" if member.flag_bits & _ENCRYPTED else None


def _extract(zip_file: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, remaining_bytes: int) -> int:
    """Extract one member; return the bytes left of the limit, negative if it is exceeded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zip_file.open(member) as source, path.open("wb") as file:
        while remaining_bytes >= 0 and (block := source.read(_BLOCK_BYTES)):
            remaining_bytes -= len(block)
            if remaining_bytes >= 0:
                file.write(block)
    return remaining_bytes
