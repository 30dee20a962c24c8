"""The overlays and options as `kubectl kustomize` writes them out."""

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

K8S = Path(__file__).parents[2] / "serving" / "k8s"
OVERLAYS = ("local", "gcs", "gpu", "kserve")
# Every combination that documentation names: an overlay, and the options added to it.
COMBINATIONS = (
    *((overlay, ()) for overlay in OVERLAYS),
    ("local", ("tls",)),
    ("gcs", ("monitoring", "tls")),
    ("gpu", ("monitoring", "tls")),
)
Objects = tuple[dict[str, Any], ...]


@functools.cache
def rendered(overlay: str, options: tuple[str, ...] = ()) -> Objects:
    """Render an overlay with options; the test is skipped where there is no kubectl."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed, which renders the overlays")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(shutil.copytree(K8S, Path(scratch) / "k8s")) / "overlays" / "chosen"
        folder.mkdir()
        components = [f"../../components/{option}" for option in options]
        # The namespace binds the options' generated names to the overlay's references.
        kustomization = {"resources": [f"../{overlay}"], "components": components, "namespace": "lung-infection"}
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(objects: Objects, kind: str) -> list[dict[str, Any]]:
    return [item for item in objects if item["kind"] == kind]


def pod_specs(objects: Objects) -> list[dict[str, Any]]:
    """The pod specs in deployments and KServe's predictors, the latter without what is KServe's own."""
    specs = [item["spec"]["template"]["spec"] for item in of_kind(objects, "Deployment")]
    own = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget"}
    for service in of_kind(objects, "InferenceService"):
        specs.append({name: value for name, value in service["spec"]["predictor"].items() if name not in own})
    assert specs
    return specs


def server(objects: Objects) -> dict[str, Any]:
    """The container that serves."""
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
