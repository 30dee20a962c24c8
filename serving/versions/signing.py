"""Sign a version with a private key, and verify the signature with the public key.

The signature is a Sigstore bundle over the digest of every file, in the format of the OpenSSF's `model-signing`, whose
command line verifies it too (`model_signing verify key --signature …`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.runtime.errors import InputError
from components.runtime.files import atomic_write
from serving.versions.layout import SIGNATURE_FILE

_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_KEY = "an elliptic curve key (P-256, P-384 or P-521) in PEM"


def sign(version: Path, private_key: Path) -> None:
    """Sign a version folder with an elliptic curve key in PEM without a passphrase.

    Raises:
        InputError: model-signing is not installed, or the key cannot be used.
    """
    library = _model_signing()
    try:
        config = library.signing.Config().use_elliptic_key_signer(private_key=private_key)
        with atomic_write(version / SIGNATURE_FILE) as temporary:
            config.set_hashing_config(_hashing_config(library)).sign(version, temporary)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{private_key}: cannot sign {version}: {error}; expected an elliptic curve key in PEM"
        ) from error


def check_private_key(path: Path) -> None:
    """Raise `InputError` unless `sign` can use a key (model_signing's sign_ec_key.py), without that library."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    _check_key(path, lambda data: load_pem_private_key(data, password=None), f"{_KEY} without a passphrase")


def check_public_key(path: Path) -> None:
    """Raise `InputError` unless `verify_signature` can use a key."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    _model_signing()
    _check_key(path, load_pem_public_key, _KEY.replace("key", "public key"))


def _check_key(path: Path, load: Callable[[bytes], Any], expected: str) -> None:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        curve = getattr(load(path.read_bytes()), "curve", None)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected {expected}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(f"{path}: {' '.join(f'{error}'.split())}; expected {expected}") from None
    found = "another kind of key" if curve is None else curve.name
    if found not in _CURVES:
        raise InputError(f"{path}: {found}; expected {expected}")


def verify_signature(version: Path, public_key: Path) -> None:
    """Check that the owner of a key signed exactly the files of a version folder.

    Raises:
        InputError: model-signing is not installed, or the signature is missing, of other files or by another key.
    """
    if not (version / SIGNATURE_FILE).is_file():
        raise InputError(f"{version}: not signed; expected {SIGNATURE_FILE}, which `lung-ct versions sign` writes")
    library = _model_signing()
    try:
        config = library.verifying.Config().use_elliptic_key_verifier(public_key=public_key)
        config.set_hashing_config(_hashing_config(library)).verify(version, version / SIGNATURE_FILE)
    except Exception as error:  # a forged bundle can fail in any part of the library
        reason = " ".join(f"{error}".split()) or type(error).__name__
        raise InputError(f"{version}: signature does not match {public_key}: {reason}; do not serve it") from error


def _hashing_config(library: Any) -> Any:
    return library.hashing.Config().set_ignored_paths(paths=[SIGNATURE_FILE], ignore_git_paths=False)


def _model_signing() -> Any:
    try:
        import model_signing
    except ModuleNotFoundError as error:
        raise InputError(f"signatures need model-signing ({error}); install the extra `signing`") from error
    return model_signing
