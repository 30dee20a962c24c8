"""Signed versions, verified by this project and by model-signing."""

import shutil
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from components.runtime.errors import InputError
from pipelines.cli import main
from serving.versions.layout import SIGNATURE_FILE
from serving.versions.manifest import verify, write_manifest
from serving.versions.signing import sign, verify_signature
from tests.export.exportable import write_keys


@pytest.fixture
def version(tmp_path):
    """A version folder signed with ours.pem; theirs.pem is another key."""
    for name in ("saved_model.pb", "variables/variables.index", "assets.extra/verdict.json"):
        (tmp_path / "7" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "7" / name).write_text(name)
    write_manifest(tmp_path / "7")
    for name in ("ours", "theirs"):
        write_keys(tmp_path, name)
    main(["versions", "sign", str(tmp_path / "7"), "--key", str(tmp_path / "ours.pem")])
    return tmp_path / "7"


def test_a_signature_is_valid_for_a_copy_of_the_version(version, tmp_path, capsys):
    for folder in (version, shutil.copytree(version, tmp_path / "elsewhere" / "12")):
        assert verify(folder) == 3  # the signature is not in the manifest
        main(["versions", "verify", str(folder), "--public-key", str(tmp_path / "ours.pub")])
        assert "signed by the owner of" in capsys.readouterr().out


def test_the_model_signing_command_verifies_a_signed_version(version, tmp_path):
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(version)]
    options = ["--signature", str(version / SIGNATURE_FILE), "--public_key", str(tmp_path / "ours.pub")]
    subprocess.run([*command, *options], check=True, capture_output=True, timeout=120)


def test_another_key_does_not_verify(version, tmp_path):
    with pytest.raises(InputError, match=rf"{version}: .*theirs\.pub"):
        verify_signature(version, tmp_path / "theirs.pub")


@pytest.mark.parametrize("change", ["edit", "add", "remove"])
def test_changed_files_with_a_new_manifest_do_not_verify(version, tmp_path, change):
    graph = version / "saved_model.pb"
    {"edit": lambda: graph.write_text("forged"), "add": (version / "more").touch, "remove": graph.unlink}[change]()
    write_manifest(version)
    verify(version)
    with pytest.raises(InputError, match=rf"{version}: .*ours\.pub"):
        verify_signature(version, tmp_path / "ours.pub")


def test_an_unsigned_version_and_an_unusable_key_are_errors(version, tmp_path):
    with pytest.raises(InputError, match=r"ours\.pub: .*elliptic curve"):
        sign(version, tmp_path / "ours.pub")
    verify_signature(version, tmp_path / "ours.pub")  # the failed attempt keeps the old signature
    (version / SIGNATURE_FILE).unlink()
    with pytest.raises(InputError, match=rf"{version}: .*model\.sig"):
        verify_signature(version, tmp_path / "ours.pub")
    with pytest.raises(InputError, match=r"missing\.pem: "):
        sign(version, tmp_path / "missing.pem")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none.pub", ".*No such file"),
        ("ours.pem", ".*PEM"),
        ("7", ".*Is a"),
        ("rsa.pub", "another kind of key"),
        ("ed25519.pub", "another kind of key"),
        ("secp256k1.pub", "secp256k1"),
    ],
)
def test_a_server_does_not_start_with_a_key_that_verifies_nothing(version, name, reason):
    keys = {
        "rsa.pub": lambda: rsa.generate_private_key(65537, 2048),
        "ed25519.pub": ed25519.Ed25519PrivateKey.generate,
        "secp256k1.pub": lambda: ec.generate_private_key(ec.SECP256K1()),
    }
    if name in keys:
        public = keys[name]().public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (version.parent / name).write_bytes(pem)
    command = ["serve", "--model-base", str(version.parent), "--require-signature", str(version.parent / name)]
    with pytest.raises(SystemExit, match=rf"{name}: {reason}.*; expected an elliptic curve public key"):
        main(command)
