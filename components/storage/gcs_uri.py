"""Addresses in Google Cloud Storage."""

import re
from dataclasses import dataclass

from components.runtime.errors import InputError

SCHEME = "gs://"


@dataclass(frozen=True)
class GcsUri:
    """A bucket and a folder in it; `prefix` is empty for the bucket itself, and has no slash at either end."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, uri: str) -> "GcsUri":
        """Read `gs://bucket/prefix`.

        Raises:
            InputError: it is something else.
        """
        match = re.fullmatch(r"gs://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/(.*))?", uri)
        if not match:
            raise InputError(f"{uri!r} is no Cloud Storage address; expected gs://bucket/prefix")
        return cls(match[1], (match[2] or "").strip("/"))

    def name(self, relative: str) -> str:
        """The full name of an object in this folder."""
        return f"{self.prefix}/{relative}" if self.prefix else relative

    def uri(self, relative: str = "") -> str:
        """The address of the folder, or of an object in it."""
        return f"{SCHEME}{self.bucket}/{self.name(relative)}".rstrip("/")


def is_gcs_uri(path: str) -> bool:
    """Whether a path is an address in Cloud Storage."""
    return path.startswith(SCHEME)
