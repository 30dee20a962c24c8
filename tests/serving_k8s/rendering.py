"""The overlays and options, render by `kubectl kustomize`."""

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

K8S = Path(__file__).parents[2] / "serving" / "k8s"
OVERLAYS_FOLDER = ("local", "gcs", "gpu", "kserve")
# The documented combinations: an overlay and its options.
COMBINATIONS = (
    *((overlay, ()) for overlay in OVERLAYS_FOLDER),
    ("local", ("tls",)),
    ("gcs", ("monitoring", "tls")),
    ("gpu", ("monitoring", "tls")),
)
Objects = tuple[dict[str, Any], ...]


@functools.cache
def render(overlay: str, options: tuple[str, ...] = ()) -> Objects:
    """Render an overlay with options; skip the test without kubectl."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(shutil.copytree(K8S, Path(scratch) / "k8s")) / "overlays" / "chosen"
        folder.mkdir()
        components = [f"../../components/{option}" for option in options]
        # The namespace lets kustomize resolve the options' generated names in the overlay's references.
        kustomization = {"resources": [f"../{overlay}"], "components": components, "namespace": "lung-infection"}
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(objects: Objects, kind: str) -> list[dict[str, Any]]:
    return [item for item in objects if item["kind"] == kind]


def pod_specs(objects: Objects) -> list[dict[str, Any]]:
    """Return the pod specs of deployments and of KServe's predictors, without KServe's own fields."""
    specs = [item["spec"]["template"]["spec"] for item in of_kind(objects, "Deployment")]
    kserve_fields = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget"}
    for service in of_kind(objects, "InferenceService"):
        specs.append({name: value for name, value in service["spec"]["predictor"].items() if name not in kserve_fields})
    assert specs
    return specs


def server(objects: Objects) -> dict[str, Any]:
    """Return the server's container."""
    (spec,) = pod_specs(objects)
    (container,) = spec["containers"]
    return container


def flags(container: dict[str, Any]) -> dict[str, str]:
    return dict(argument.removeprefix("--").split("=", 1) for argument in container["args"])


def config_file(objects: Objects, name_prefix: str, key: str) -> str:
    (text,) = (
        item["data"][key]
        for item in of_kind(objects, "ConfigMap")
        if item["metadata"]["name"].startswith(name_prefix) and key in item["data"]
    )
    return text
