"""Case ids that tell nothing: keyed hashes of the names that files have.

The same name and key give the same id in every run, so that cohorts can be extended. Without the key an id cannot be
traced, nor checked against a list of names: that is why it is a keyed hash (HMAC, RFC 2104), and why the key is read
from a file, where no parameter, log or artifact shows it.
"""

import hashlib
import hmac
from pathlib import Path

from components.runtime.errors import InputError

_LEAST_KEY_BYTES = 16
_DIGITS = 12  # 48 bits: two of a thousand cases share an id once in half a billion cohorts


class Pseudonyms:
    """Ids for the cases and patients of a cohort.

    Args:
        key: the secret.
    """

    def __init__(self, key: bytes):
        self._key = key

    @classmethod
    def read(cls, key_file: Path) -> "Pseudonyms":
        """Take the key from a file, white space around it left out.

        Raises:
            InputError: no such file, or a key that is too short to keep anything secret.
        """
        try:
            key = key_file.read_bytes().strip()
        except OSError as error:
            raise InputError(
                f"{key_file}: the key for pseudonyms cannot be read ({error.strerror}); "
                "make one with: openssl rand -hex 32 > FILE, and keep it"
            ) from None
        if len(key) < _LEAST_KEY_BYTES:
            raise InputError(f"{key_file}: holds {len(key)} bytes; a key for pseudonyms has {_LEAST_KEY_BYTES} or more")
        return cls(key)

    def case_id(self, name: str) -> str:
        """The id of the case that files call `name`, whatever its letters' case."""
        return f"case-{self._hash('case', name)}"

    def patient_id(self, name: str) -> str:
        """The id of the patient who is known as `name`."""
        return f"patient-{self._hash('patient', name)}"

    def _hash(self, kind: str, name: str) -> str:
        return hmac.new(self._key, f"{kind}:{name.casefold()}".encode(), hashlib.sha256).hexdigest()[:_DIGITS]
