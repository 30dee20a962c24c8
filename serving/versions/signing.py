"""Signing a version with a private key, so that nobody without the key can pass off another one.

The signature is a Sigstore bundle over the digest of every file, as the OpenSSF's `model-signing` writes it: its own
command line verifies it too (`model_signing verify key --signature …`).
"""

from pathlib import Path
from typing import Any

from components.runtime.errors import InputError
from components.runtime.files import atomic_write

SIGNATURE = Path("assets.extra") / "model.sig"


def sign(version: Path, private_key: Path) -> None:
    """Sign a version folder as it lies there.

    Args:
        version: the folder.
        private_key: PEM of an elliptic curve key without a passphrase, such as `openssl ecparam -genkey` makes.

    Raises:
        InputError: the package is not installed, or the key cannot be used.
    """
    library = _library()
    try:
        config = library.signing.Config().use_elliptic_key_signer(private_key=private_key)
        with atomic_write(version / SIGNATURE) as temporary:
            config.set_hashing_config(_all_but_the_signature(library)).sign(version, temporary)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{private_key}: cannot sign {version}: {error}; expected an elliptic curve key in PEM"
        ) from error


def verify_signature(version: Path, public_key: Path) -> None:
    """Check that the holder of a key signed exactly these files.

    Args:
        version: the folder.
        public_key: PEM of the key's public half.

    Raises:
        InputError: the package is not installed, there is no signature, or it is another key's or of other files.
    """
    if not (version / SIGNATURE).is_file():
        raise InputError(f"{version}: is not signed; expected {SIGNATURE}, as `python -m serving.cli sign` writes it")
    library = _library()
    try:
        config = library.verifying.Config().use_elliptic_key_verifier(public_key=public_key)
        config.set_hashing_config(_all_but_the_signature(library)).verify(version, version / SIGNATURE)
    except Exception as error:  # the library raises whatever its parts raise: a forged bundle may fail anywhere
        reason = " ".join(f"{error}".split()) or type(error).__name__
        raise InputError(
            f"{version}: its signature does not hold by {public_key}: {reason}; do not serve it"
        ) from error


def _all_but_the_signature(library: Any) -> Any:
    return library.hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


def _library() -> Any:
    try:
        import model_signing
    except ModuleNotFoundError as error:
        raise InputError(f"signatures need model-signing ({error}); install the extra `signing`") from error
    return model_signing
