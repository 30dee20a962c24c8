"""Image, ports, model name and paths in the manifests match the code."""

import inspect
import re
import tomllib
from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from pipelines.training import training
from serving.arguments import DEFAULT_MODEL
from serving.client.segmentation import SegmentationClient
from serving.server.command import DEFAULT_PORT
from serving.server.metrics import PATH as METRICS_PATH
from serving.versions.model_config import from_message
from tests.serving_k8s.rendering import (
    COMBINATIONS,
    OVERLAYS_FOLDER,
    config_file,
    flags,
    of_kind,
    pod_specs,
    render,
    server,
)

ROOT = Path(__file__).parents[2]
WITH_CONFIG = ("local", "gcs", "gpu")
MODEL = training.component_spec.inputs["model_name"].default


def locked_version(package: str) -> str:
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    (version,) = (entry["version"] for entry in lock["package"] if entry["name"] == package)
    return version


def test_the_command_line_and_the_pipeline_have_the_same_default_model():
    assert MODEL == DEFAULT_MODEL


@pytest.mark.parametrize(("overlay", "options"), COMBINATIONS)
def test_the_image_version_matches_the_locked_serving_api(overlay, options):
    for spec in pod_specs(render(overlay, options)):
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            name, _, tag = container["image"].partition(":")
            assert name == "tensorflow/serving"
            assert tag.removesuffix("-gpu") == locked_version("tensorflow-serving-api")
            assert tag.endswith("-gpu") == (overlay == "gpu" and container in spec["containers"])


@pytest.mark.parametrize("overlay", WITH_CONFIG)
def test_the_served_model_is_that_of_the_pipeline(overlay):
    text = config_file(render(overlay), "lung-infection-models", "models.config")
    (model,) = from_message(text_format.Parse(text, ModelServerConfig()))
    assert model.name == MODEL
    assert model.base.endswith(f"/{MODEL}")


@pytest.mark.parametrize("overlay", WITH_CONFIG)
def test_a_broken_newest_version_leaves_another_to_start_with(overlay):
    text = config_file(render(overlay), "lung-infection-models", "models.config")
    (model,) = from_message(text_format.Parse(text, ModelServerConfig()))
    assert (model.specific, model.newest) == ((), 2)
    # TF Serving gives up after five retries, a minute apart (server.h:68-69), before it listens.
    assert not {"max_num_load_retries", "load_retry_interval_micros"} & set(flags(server(render(overlay))))
    probe = server(render(overlay))["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] > 5 * 60


def test_kserve_runs_in_the_mode_without_knative():
    """`Standard` in KServe's pkg/constants/constants.go since 0.16; `RawDeployment` is deprecated."""
    (service,) = of_kind(render("kserve"), "InferenceService")
    assert service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Standard"


def test_kserve_and_gcs_serve_the_same_model_from_the_same_bucket():
    text = config_file(render("gcs"), "lung-infection-models", "models.config")
    (model,) = from_message(text_format.Parse(text, ModelServerConfig()))
    server_flags = flags(server(render("kserve")))
    assert (server_flags["model_name"], server_flags["model_base_path"]) == (model.name, model.base)


def test_the_local_model_base_is_on_the_mounted_volume():
    objects = render("local")
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
def test_ports_of_flags_containers_and_services_match(overlay):
    objects = render(overlay)
    container = server(objects)
    server_flags = flags(container)
    declared = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert declared == {"grpc": int(server_flags["port"]), "http": int(server_flags["rest_api_port"])}
    assert declared["grpc"] == DEFAULT_PORT
    for service in of_kind(objects, "Service"):
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in declared
            assert port["port"] == declared[port["name"]]


@pytest.mark.parametrize("overlay", OVERLAYS_FOLDER)
def test_readiness_requires_a_loaded_version(overlay):
    container = server(render(overlay))
    paths = {name: probe["httpGet"]["path"] for name, probe in container.items() if name.endswith("Probe")}
    assert paths["readinessProbe"] == f"/v1/models/{MODEL}/metadata"
    assert paths["livenessProbe"] == f"/v1/models/{MODEL}"
    assert paths.get("startupProbe", paths["readinessProbe"]) == paths["readinessProbe"]


def test_prometheus_scrapes_the_path_and_port_of_the_metrics():
    objects = render("gcs", ("monitoring", "tls"))
    assert f'path: "{METRICS_PATH}"' in config_file(objects, "lung-infection-server", "monitoring.config")
    (monitor,) = of_kind(objects, "ServiceMonitor")
    assert [endpoint["path"] for endpoint in monitor["spec"]["endpoints"]] == [METRICS_PATH]
    ports = {port["name"] for service in of_kind(objects, "Service") for port in service["spec"]["ports"]}
    assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports
    (deployment,) = of_kind(objects, "Deployment")
    assert deployment["spec"]["template"]["metadata"]["annotations"]["prometheus.io/path"] == METRICS_PATH


def test_alerts_use_metrics_of_the_server_and_this_model():
    source = (ROOT / "serving" / "server" / "metrics.py").read_text()
    (rule,) = of_kind(render("gcs", ("monitoring", "tls")), "PrometheusRule")
    expressions = [entry["expr"] for group in rule["spec"]["groups"] for entry in group["rules"]]
    metrics = {name for text in expressions for name in re.findall(r":tensorflow:serving:[a-z_]+", text)}
    assert {name.removesuffix("_bucket") for name in metrics} <= set(re.findall(r":tensorflow:serving:[a-z_]+", source))
    models = {name for text in expressions for name in re.findall(r'model_name="([^"]+)"', text)}
    assert models == {MODEL}


@pytest.mark.parametrize(("overlay", "options"), COMBINATIONS)
def test_every_file_in_the_flags_is_mounted(overlay, options):
    objects = render(overlay, options)
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
def test_selectors_match_the_servers(overlay):
    objects = render(overlay)
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


def test_the_deployment_leaves_replicas_to_the_autoscaler():
    (deployment,) = of_kind(render("gcs"), "Deployment")
    assert "replicas" not in deployment["spec"]


def test_a_batch_can_hold_a_chunk_of_our_client():
    text = config_file(render("gpu"), "lung-infection-batching", "batching.config")
    numbers = dict(re.findall(r"(\w+) \{ value: (\w+) \}", text))
    chunk_bytes = inspect.signature(SegmentationClient).parameters["chunk_bytes"].default
    grid = training.component_spec.inputs["image_size"].default
    chunk_slices = chunk_bytes // (grid * grid * 4)  # responses contain float32 probabilities
    assert int(numbers["max_batch_size"]) >= chunk_slices
    assert numbers["enable_large_batch_splitting"] == "true"
    assert int(numbers["max_execution_batch_size"]) <= int(numbers["max_batch_size"])


@pytest.mark.parametrize("overlay", ["local", "gcs"])
def test_cpu_overlays_do_not_enable_batching(overlay):
    assert "enable_batching" not in flags(server(render(overlay)))
