"""URIs of Google Cloud Storage, without the client library."""

import re
from dataclasses import dataclass

from components.runtime.errors import InputError

_SCHEME = "gs://"


@dataclass(frozen=True)
class GcsUri:
    """A bucket and a prefix without slashes at its ends; an empty prefix is the bucket itself."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, uri: str) -> "GcsUri":
        """Parse `gs://bucket/prefix`; raise `InputError` for anything else."""
        match = re.fullmatch(r"gs://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/(.*))?", uri)
        if not match:
            raise InputError(f"{uri!r}: not a Cloud Storage URI; expected gs://bucket/prefix")
        return cls(match[1], (match[2] or "").strip("/"))

    def object_name(self, relative: str) -> str:
        """The full name of an object below the prefix."""
        return f"{self.prefix}/{relative}" if self.prefix else relative

    def join(self, relative: str = "") -> str:
        """The URI of the prefix, or of an object below it."""
        return f"{_SCHEME}{self.bucket}/{self.object_name(relative)}".rstrip("/")

    def check_file_name(self, relative: str) -> None:
        """Raise `InputError` unless a file below a folder can have the name of an object."""
        if (part := find_invalid_part(relative)) is not None:
            reason = f"is {part!r}" if part else "is empty"
            raise InputError(
                f"{self.join(relative)}: a part of the name between slashes {reason}; no file can have this name; "
                "rename the object"
            )


def find_invalid_part(name: str) -> str | None:
    """Find the part of an object's name that no file can have: an empty one, `.` or `..`."""
    return next((part for part in name.split("/") if part in ("", ".", "..")), None)


def is_gcs_uri(path: str) -> bool:
    """Whether a path is meant as a Cloud Storage URI; `GcsUri.parse` refuses `GS://bucket` and `gs:/bucket`."""
    return path[:3].casefold() == "gs:"
