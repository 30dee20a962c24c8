"""Image, port, model name and paths in the manifests are those of the code that uses them."""

import inspect
import re
import tomllib
from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from pipelines.training import training
from serving.client.segmentation import SegmentationClient
from serving.arguments import DEFAULT_MODEL
from serving.commands.serve import DEFAULT_PORT
from serving.server.metrics import PATH as METRICS_PATH
from serving.versions.model_config import from_message
from tests.serving_k8s.rendering import (
    COMBINATIONS,
    OVERLAYS,
    config_file,
    flags,
    of_kind,
    pod_specs,
    rendered,
    server,
)

ROOT = Path(__file__).parents[2]
WITH_CONFIG = ("local", "gcs", "gpu")
MODEL = training.component_spec.inputs["model_name"].default


def locked(package: str) -> str:
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    (version,) = (entry["version"] for entry in lock["package"] if entry["name"] == package)
    return version


def test_the_command_line_and_the_pipeline_name_the_same_model():
    assert MODEL == DEFAULT_MODEL


@pytest.mark.parametrize(("overlay", "options"), COMBINATIONS)
def test_every_container_runs_the_serving_version_that_clients_are_locked_to(overlay, options):
    for spec in pod_specs(rendered(overlay, options)):
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            name, _, tag = container["image"].partition(":")
            assert name == "tensorflow/serving"
            assert tag.removesuffix("-gpu") == locked("tensorflow-serving-api")
            assert tag.endswith("-gpu") == (overlay == "gpu" and container in spec["containers"])


@pytest.mark.parametrize("overlay", WITH_CONFIG)
def test_the_served_model_is_the_pipelines(overlay):
    text = config_file(rendered(overlay), "lung-infection-models", "models.config")
    (model,) = from_message(text_format.Parse(text, ModelServerConfig()))
    assert model.name == MODEL
    assert model.base.endswith(f"/{MODEL}")


def test_kserve_serves_the_same_model_from_the_same_bucket_as_gcs():
    text = config_file(rendered("gcs"), "lung-infection-models", "models.config")
    (model,) = from_message(text_format.Parse(text, ModelServerConfig()))
    given = flags(server(rendered("kserve")))
    assert (given["model_name"], given["model_base_path"]) == (model.name, model.base)


def test_the_local_models_path_is_on_the_mounted_claim():
    objects = rendered("local")
    (model,) = from_message(
        text_format.Parse(config_file(objects, "lung-infection-models", "models.config"), ModelServerConfig())
    )
    (spec,) = pod_specs(objects)
    (claim,) = of_kind(objects, "PersistentVolumeClaim")
    (volume,) = (v for v in spec["volumes"] if "persistentVolumeClaim" in v)
    (mount,) = (m for m in server(objects)["volumeMounts"] if m["name"] == volume["name"])
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert model.base.startswith(mount["mountPath"] + "/")
    assert mount["readOnly"] is True


@pytest.mark.parametrize("overlay", WITH_CONFIG)
def test_ports_are_the_same_from_the_flags_to_the_services(overlay):
    objects = rendered(overlay)
    container = server(objects)
    given = flags(container)
    declared = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert declared == {"grpc": int(given["port"]), "http": int(given["rest_api_port"])}
    assert declared["grpc"] == DEFAULT_PORT
    for service in of_kind(objects, "Service"):
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in declared
            assert port["port"] == declared[port["name"]]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_probes_ask_for_the_model_and_readiness_for_a_loaded_version(overlay):
    container = server(rendered(overlay))
    paths = {name: probe["httpGet"]["path"] for name, probe in container.items() if name.endswith("Probe")}
    assert paths["readinessProbe"] == f"/v1/models/{MODEL}/metadata"
    assert paths["livenessProbe"] == f"/v1/models/{MODEL}"
    assert paths.get("startupProbe", paths["readinessProbe"]) == paths["readinessProbe"]


def test_metrics_are_exported_where_they_are_scraped():
    objects = rendered("gcs", ("monitoring", "tls"))
    assert f'path: "{METRICS_PATH}"' in config_file(objects, "lung-infection-server", "monitoring.config")
    (monitor,) = of_kind(objects, "ServiceMonitor")
    assert [endpoint["path"] for endpoint in monitor["spec"]["endpoints"]] == [METRICS_PATH]
    ports = {port["name"] for service in of_kind(objects, "Service") for port in service["spec"]["ports"]}
    assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports
    (deployment,) = of_kind(objects, "Deployment")
    assert deployment["spec"]["template"]["metadata"]["annotations"]["prometheus.io/path"] == METRICS_PATH


def test_alerts_ask_for_metrics_that_the_server_has_and_for_this_model():
    source = (ROOT / "serving" / "metrics.py").read_text()
    (rule,) = of_kind(rendered("gcs", ("monitoring", "tls")), "PrometheusRule")
    expressions = [entry["expr"] for group in rule["spec"]["groups"] for entry in group["rules"]]
    metrics = {name for text in expressions for name in re.findall(r":tensorflow:serving:[a-z_]+", text)}
    assert {name.removesuffix("_bucket") for name in metrics} <= set(re.findall(r":tensorflow:serving:[a-z_]+", source))
    models = {name for text in expressions for name in re.findall(r'model_name="([^"]+)"', text)}
    assert models == {MODEL}


@pytest.mark.parametrize(("overlay", "options"), COMBINATIONS)
def test_every_file_that_a_flag_names_is_mounted(overlay, options):
    objects = rendered(overlay, options)
    container = server(objects)
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    for name, value in flags(container).items():
        if name.endswith("_file"):
            assert any(value.startswith(mount + "/") for mount in mounts), name
    (spec,) = pod_specs(objects)
    volumes = {volume["name"] for volume in spec["volumes"]}
    for part in [*spec.get("initContainers", []), container]:
        assert {mount["name"] for mount in part["volumeMounts"]} <= volumes
    names = {item["metadata"]["name"] for item in of_kind(objects, "ConfigMap")}
    assert {volume["configMap"]["name"] for volume in spec["volumes"] if "configMap" in volume} <= names


@pytest.mark.parametrize("overlay", WITH_CONFIG)
def test_selectors_find_the_servers(overlay):
    objects = rendered(overlay)
    (deployment,) = of_kind(objects, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        *(item["spec"]["selector"] for item in of_kind(objects, "Service")),
        *(item["spec"]["selector"]["matchLabels"] for item in of_kind(objects, "PodDisruptionBudget")),
        *(item["spec"]["podSelector"]["matchLabels"] for item in of_kind(objects, "NetworkPolicy")),
    ]
    assert len(selectors) == 5
    assert all(selector.items() <= labels for selector in selectors)


def test_the_autoscaler_owns_the_number_of_servers():
    (deployment,) = of_kind(rendered("gcs"), "Deployment")
    assert "replicas" not in deployment["spec"]


def test_a_batch_holds_every_chunk_of_our_client():
    text = config_file(rendered("gpu"), "lung-infection-batching", "batching.config")
    numbers = dict(re.findall(r"(\w+) \{ value: (\w+) \}", text))
    chunk_bytes = inspect.signature(SegmentationClient).parameters["chunk_bytes"].default
    grid = training.component_spec.inputs["image_size"].default
    slices_in_a_chunk = chunk_bytes // (grid * grid * 4)  # a reply's probabilities are float32
    assert int(numbers["max_batch_size"]) >= slices_in_a_chunk
    assert numbers["enable_large_batch_splitting"] == "true"
    assert int(numbers["max_execution_batch_size"]) <= int(numbers["max_batch_size"])


@pytest.mark.parametrize("overlay", ["local", "gcs"])
def test_requests_of_different_sizes_are_never_joined_on_processors(overlay):
    assert "enable_batching" not in flags(server(rendered(overlay)))
