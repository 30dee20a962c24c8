"""Registration of versions in a real HTTP server that follows the Model Registry's source."""

import dataclasses
import socket

import pytest
from model_registry import ModelRegistry

from components.register_model.registration import Registration, register
from components.runtime.errors import InputError
from tests.register_model.registry_server import run_registry

VERSION = Registration(
    model_name="lung",
    location="gs://hospital/models/lung/3",
    manifest_sha256="ab" * 32,
    properties={"test_dice": 0.75, "test_dice_ci_low": 0.7, "verdict": "pass", "data_license": "CC-BY-4.0"},
    run_id="5f0c",
    run_name="nightly",
)


@pytest.fixture(params=["v1", "v1alpha3"])
def registry(request):
    with run_registry() as registry:
        registry.api = request.param
        yield registry


def test_a_version_is_registered_with_its_facts(registry):
    register(VERSION, registry.url + "/")
    assert [model["name"] for model in registry.models] == ["lung"]
    assert [version["name"] for version in registry.versions] == ["3"]
    assert registry.properties() == {**VERSION.properties, "manifest_sha256": "ab" * 32}
    (artifact,) = registry.artifacts
    assert artifact["uri"] == VERSION.location
    assert (artifact["modelFormatName"], artifact["modelFormatVersion"]) == ("tensorflow", "2")
    source = {key: value for key, value in artifact.items() if key.startswith("modelSource")}
    assert source == {
        "modelSourceKind": "kfp",
        "modelSourceClass": "pipelinerun",
        "modelSourceId": "5f0c",
        "modelSourceName": "nightly",
    }


def test_the_published_client_finds_the_version(registry):
    registry.api = "v1"  # the one of the client's release
    register(VERSION, registry.url)
    client = ModelRegistry(registry.url, author="reader", user_token="any", is_secure=False)
    assert client.get_model_version("lung", "3").custom_properties["test_dice"] == 0.75
    assert client.get_model_artifact("lung", "3").uri == VERSION.location


def test_a_second_registration_changes_nothing(registry):
    register(VERSION, registry.url)
    register(VERSION, registry.url)
    assert (len(registry.models), len(registry.versions), len(registry.artifacts)) == (1, 1, 1)


def test_the_next_version_joins_the_model(registry):
    register(VERSION, registry.url)
    register(dataclasses.replace(VERSION, location="gs://hospital/models/lung/4"), registry.url)
    assert (len(registry.models), len(registry.versions), len(registry.artifacts)) == (1, 2, 2)


@pytest.mark.parametrize("failing", ["model_versions", "model_versions/1/artifacts"])
def test_an_interrupted_registration_is_completed(registry, failing):
    registry.refuse = {f"POST {failing}": 500}
    with pytest.raises(InputError, match="500"):
        register(VERSION, registry.url)
    registry.refuse = {}
    register(VERSION, registry.url)
    assert (len(registry.models), len(registry.versions), len(registry.artifacts)) == (1, 1, 1)


@pytest.mark.parametrize("change", [{"location": "gs://other/lung/3"}, {"manifest_sha256": "cd" * 32}])
def test_another_version_of_the_same_number_is_an_error(registry, change):
    register(VERSION, registry.url)
    other = dataclasses.replace(VERSION, **change)
    with pytest.raises(InputError, match=rf"lung version 3: .*{VERSION.location}.*{next(iter(change.values()))}"):
        register(other, registry.url)
    assert len(registry.versions) == 1


def test_the_token_of_the_pod_authenticates(registry, tmp_path, monkeypatch):
    registry.token = "of-the-service-account"
    with pytest.raises(InputError, match=r"401.*service account"):
        register(VERSION, registry.url)
    (tmp_path / "token").write_text(f"{registry.token}\n")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    register(VERSION, registry.url)
    assert len(registry.versions) == 1


def test_errors_have_one_line(registry):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(InputError, match=f"{closed}: cannot be reached"):
            register(VERSION, closed)
    with pytest.raises(InputError, match=r"^registry:8080: cannot be reached"):
        register(VERSION, "registry:8080")
    with pytest.raises(InputError, match="404"):
        register(VERSION, f"{registry.url}/elsewhere")
    for page in ("<html>Log in</html>", "[]"):
        registry.page = page
        with pytest.raises(InputError, match=f"^{registry.url}: GET .*address") as raised:
            register(VERSION, registry.url)
        assert len(str(raised.value).splitlines()) == 1
    registry.page, registry.refuse = "", {"POST registered_models": 409}  # another run was faster
    with pytest.raises(InputError, match="409"):
        register(VERSION, registry.url)
