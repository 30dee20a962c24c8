"""Sign a version with a private key, and verify the signature with the public key.

The signature is a Sigstore bundle over the digest of every file, in the format of the OpenSSF's `model-signing`, whose
command line verifies it too (`model_signing verify key --signature …`).
"""

from pathlib import Path
from typing import Any

from components.runtime.errors import InputError
from components.runtime.files import atomic_write
from serving.versions.layout import SIGNATURE_FILE


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
