"""The script of the TLS option writes TensorFlow Serving's SSLConfig from the files of a Secret."""

import shutil
import ssl
import stat
import subprocess

import pytest
import trustme
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from tests.serving_k8s.rendering import K8S, flags, of_kind, render, server

SCRIPT = K8S / "components" / "tls" / "write_ssl_config.sh"


def ssl_config():
    """tensorflow_serving/config/ssl_config.proto, which the Python package does not contain."""
    strings, booleans = descriptor_pb2.FieldDescriptorProto.TYPE_STRING, descriptor_pb2.FieldDescriptorProto.TYPE_BOOL
    file = descriptor_pb2.FileDescriptorProto(name="ssl_config.proto", package="test", syntax="proto3")
    message = file.message_type.add(name="SSLConfig")
    fields = {"server_key": strings, "server_cert": strings, "custom_ca": strings, "client_verify": booleans}
    for number, (name, kind) in enumerate(fields.items(), start=1):
        message.field.add(name=name, number=number, type=kind, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.SSLConfig"))()


@pytest.fixture
def secret(tmp_path):
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    folder = tmp_path / "secret"
    folder.mkdir()
    authority = trustme.CA()
    certificate = authority.issue_cert("lung-infection.lung-infection.svc")
    certificate.private_key_pem.write_to_path(folder / "tls.key")
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(folder / "tls.crt", append=True)
    authority.cert_pem.write_to_path(folder / "ca.crt")
    return folder


def write_config(secret, tmp_path):
    config = tmp_path / "ssl.config"
    subprocess.run(["bash", SCRIPT, secret, config], check=True)
    return config, text_format.Parse(config.read_text(), ssl_config())


def test_the_config_contains_key_and_certificate_unchanged(secret, tmp_path):
    path, config = write_config(secret, tmp_path)
    assert config.server_key.encode() == (secret / "tls.key").read_bytes()
    assert config.server_cert.encode() == (secret / "tls.crt").read_bytes()
    assert not config.client_verify
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=config.server_cert)


def test_the_secret_can_require_client_certificates(secret, tmp_path):
    (secret / "require_client_certificate").write_text("true")
    _, config = write_config(secret, tmp_path)
    assert config.client_verify
    assert config.custom_ca.encode() == (secret / "ca.crt").read_bytes()


def test_a_secret_without_a_key_is_an_error_and_leaves_no_config(secret, tmp_path):
    (secret / "tls.key").unlink()
    done = subprocess.run(["bash", SCRIPT, secret, tmp_path / "ssl.config"], capture_output=True, check=False)
    assert done.returncode != 0
    assert not (tmp_path / "ssl.config").exists()


def test_tls_closes_the_plaintext_rest_port_to_clients():
    objects = render("local", ("tls",))
    assert flags(server(objects))["ssl_config_file"] == "/run/tls/ssl.config"
    (policy,) = of_kind(objects, "NetworkPolicy")
    clients, prometheus = policy["spec"]["ingress"]
    assert [port["port"] for port in clients["ports"]] == ["grpc"]
    assert [port["port"] for port in prometheus["ports"]] == ["http"]
