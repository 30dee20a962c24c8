"""TLS on both ports: accepted and rejected clients, and no fallback to plaintext."""

import ssl
import urllib.request
from datetime import datetime, timedelta

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from components.ct.intensity import read_ct
from components.runtime.errors import InputError
from pipelines.cli import main
from serving.client.endpoint import ServingError
from serving.client.segmentation import SegmentationClient
from serving.server.server import Server, Settings
from serving.tls import ClientTls, ServerTls
from serving.versions.model_config import ModelConfig
from tests.serving.toy import MODEL


@pytest.fixture(scope="module")
def pems(tmp_path_factory):
    """PEM files: an authority, a server and a client certificate that it signed, and another authority."""
    folder = tmp_path_factory.mktemp("pems")
    ours, theirs = trustme.CA(), trustme.CA()
    for name, issued in (("server", ours.issue_cert("127.0.0.1")), ("client", ours.issue_cert("doctor@ward"))):
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
    ours.cert_pem.write_to_path(folder / "ca.pem")
    theirs.cert_pem.write_to_path(folder / "other-ca.pem")
    return folder


def start_server(model_folder, tls):
    return Server(Settings(models=(ModelConfig(MODEL, str(model_folder)),), port=0, rest_port=0, tls=tls))


@pytest.fixture(scope="module")
def tls_server(model_folder, pems):
    server = start_server(model_folder, ServerTls(pems / "server.pem", pems / "server.key"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def mutual_server(model_folder, pems):
    server = start_server(model_folder, ServerTls(pems / "server.pem", pems / "server.key", pems / "ca.pem"))
    yield server
    server.stop()


def predict(address, scan, tls):
    with SegmentationClient(address, MODEL, timeout_s=3, tls=tls) as client:
        return client.predict(read_ct(scan)[0])


def test_a_client_that_trusts_the_servers_authority_is_answered(tls_server, scan, pems):
    assert predict(tls_server.address, scan, ClientTls(pems / "ca.pem")).version == 12


@pytest.mark.parametrize("ca", ["other-ca.pem", None])
def test_a_client_of_another_authority_does_not_connect(tls_server, scan, pems, ca):
    with pytest.raises(ServingError, match=f"{tls_server.address} .*plaintext") as caught:
        predict(tls_server.address, scan, ClientTls(pems / ca if ca else None))
    assert caught.value.code == "UNAVAILABLE"


def test_a_client_with_tls_never_sends_plaintext(server, scan, pems):
    with pytest.raises(ServingError):
        predict(server, scan, ClientTls(pems / "ca.pem"))


def test_plaintext_to_a_tls_port_fails(tls_server, scan):
    with pytest.raises(ServingError):
        predict(tls_server.address, scan, None)


def test_mutual_tls_accepts_only_clients_with_a_certificate(mutual_server, scan, pems):
    own = ClientTls(pems / "ca.pem", pems / "client.pem", pems / "client.key")
    assert predict(mutual_server.address, scan, own).version == 12
    with pytest.raises(ServingError):
        predict(mutual_server.address, scan, ClientTls(pems / "ca.pem"))


def test_the_rest_port_uses_tls_too(mutual_server, pems):
    url = f"https://{mutual_server.rest_address}/v1/models/toy"
    context = ssl.create_default_context(cafile=pems / "ca.pem")
    with pytest.raises(OSError):  # noqa: PT011 (URLError or a reset, depending on timing)
        urllib.request.urlopen(url, timeout=10, context=context).read()
    context.load_cert_chain(pems / "client.pem", pems / "client.key")
    with urllib.request.urlopen(url, timeout=10, context=context) as reply:
        assert reply.status == 200


def test_the_command_line_takes_certificates(mutual_server, scan, pems, tmp_path):
    mask = tmp_path / "mask.nii.gz"
    certificates = ["--ca", pems / "ca.pem", "--client-certificate", pems / "client.pem"]
    command = ["predict", scan, "-o", mask, "--server", mutual_server.address, "--model", MODEL, *certificates]
    main([*map(str, command), "--client-key", str(pems / "client.key")])
    assert mask.exists()


@pytest.mark.parametrize(
    ("tls", "message"),
    [
        (ClientTls(ca="missing.pem"), "missing.pem: .*No such file"),
        (ClientTls(ca="server.key"), "server.key: expected .*authority"),
        (ClientTls(certificate="client.pem"), "client.pem: .*both"),
        (ClientTls(certificate="client.pem", key="server.key"), "client.pem, .*server.key: "),
    ],
)
def test_an_unusable_file_is_an_error_before_the_first_request(pems, tls, message):
    paths = {name: pems / value for name, value in vars(tls).items() if value is not None}
    with pytest.raises(InputError, match=message):
        SegmentationClient("127.0.0.1:1", MODEL, tls=ClientTls(**paths))


@pytest.mark.parametrize(("days", "warns"), [((-30, -1), True), ((1, 30), True), ((-1, 30), False)])
def test_a_certificate_that_is_not_valid_today_is_a_warning_at_start(model_folder, tmp_path, caplog, days, warns):
    start, end = (datetime.now() + timedelta(days=number) for number in days)
    issued = trustme.CA().issue_cert("127.0.0.1", not_before=start, not_after=end)
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    start_server(model_folder, ServerTls(tmp_path / "server.pem", tmp_path / "server.pem")).stop()
    expected = f"server.pem: certificate is valid from {start:%Y-%m-%d} to {end:%Y-%m-%d}"
    assert (expected in caplog.text) == warns


@pytest.fixture(scope="module")
def odd_pems(pems):
    """Files that are no certificate or key that a server can use."""
    certificate, key = (pems / "server.pem").read_bytes(), (pems / "server.key").read_bytes()
    (pems / "der").write_bytes(x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER))
    (pems / "text").write_text("certificate\n")
    (pems / "empty").touch()
    encryption = BestAvailableEncryption(b"secret")
    for name, kind in (("encrypted", PrivateFormat.PKCS8), ("legacy", PrivateFormat.TraditionalOpenSSL)):
        (pems / name).write_bytes(load_pem_private_key(key, None).private_bytes(Encoding.PEM, kind, encryption))
    return pems


@pytest.mark.parametrize(
    ("certificate", "key"),
    [
        ("server.pem", "client.key"),
        ("server.key", "server.pem"),
        *((name, "server.key") for name in ("der", "text", "empty")),
        *(("server.pem", name) for name in ("der", "text", "empty", "encrypted", "legacy")),
    ],
)
def test_an_unusable_certificate_or_key_is_one_line_before_the_model_is_looked_for(odd_pems, certificate, key):
    """An encrypted key must not ask for a passphrase on the terminal."""
    command = ["serve", "--model-base", "/nowhere", "--tls-certificate", str(odd_pems / certificate)]
    with pytest.raises(SystemExit) as caught:
        main([*command, "--tls-key", str(odd_pems / key)])
    assert f"{odd_pems / certificate}, {odd_pems / key}: expected a PEM certificate" in str(caught.value)
    assert "None" not in str(caught.value)
    with pytest.raises(InputError, match=key):
        ClientTls(None, odd_pems / certificate, odd_pems / key).credentials()
