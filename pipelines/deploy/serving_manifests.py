"""The serving manifests of a deployment: the overlay with its own values on top, rendered and checked."""

import importlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from components.runtime.files import atomic_write
from pipelines.deploy.deployment import NAMESPACE, Deployment
from pipelines.deploy.shell import ROOT, output

_KUBERNETES = "1.33"  # whose schemas the objects are held against
_KEPT = ("Namespace", "PersistentVolumeClaim")  # what `down` leaves: models are not ours to delete


def kustomization(deployment: Deployment, folder: Path, k8s: Path = ROOT / "serving" / "k8s") -> dict[str, Any]:
    """The overlay with this deployment's own values on top.

    Args:
        deployment: the values.
        folder: where the kustomization will lie; paths are relative to it.
        k8s: the folder of base, overlays and components.
    """
    way = Path(os.path.relpath(k8s, folder))
    written: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": deployment.namespace,
        "resources": [str(way / "overlays" / deployment.overlay)],
        "components": [str(way / "components" / option) for option in deployment.options],
        "patches": [],
    }
    if deployment.serving_digest and deployment.overlay == "kserve":
        # Kustomize finds images in pod templates alone.
        pinned = f"tensorflow/serving@{deployment.serving_digest}"
        replace = [{"op": "replace", "path": "/spec/predictor/containers/0/image", "value": pinned}]
        written["patches"].append({"target": {"kind": "InferenceService"}, "patch": yaml.safe_dump(replace)})
    elif deployment.serving_digest:
        written["images"] = [{"name": "tensorflow/serving", "digest": deployment.serving_digest}]
    if deployment.namespace != NAMESPACE and deployment.overlay != "kserve":
        # Somebody else's namespace: neither made nor labeled by us.
        delete = {"$patch": "delete", "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        written["patches"].append({"patch": yaml.safe_dump(delete)})
    if deployment.model_base:
        written["patches"].append(_model_base_patch(deployment, k8s))
    if deployment.gcp_service_account:
        annotation = {"iam.gke.io/gcp-service-account": deployment.gcp_service_account}
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "lung-infection", "annotations": annotation},
        }
        written["patches"].append({"patch": yaml.safe_dump(account)})
    return written


def _model_base_patch(deployment: Deployment, k8s: Path) -> dict[str, Any]:
    """Where the model lies, in models.config, or in KServe's flag."""
    if deployment.overlay == "kserve":
        value = f"--model_base_path={deployment.model_base}"
        replace = [{"op": "replace", "path": "/spec/predictor/containers/0/args/3", "value": value}]
        return {"target": {"kind": "InferenceService"}, "patch": yaml.safe_dump(replace)}
    # The overlay's own file, with the labels that were promoted in it; the gpu overlay builds on gcs.
    overlay = "local" if deployment.overlay == "local" else "gcs"
    lines = (k8s / "overlays" / overlay / "models.config").read_text()
    config = re.sub(r'base_path: "[^"]*"', f'base_path: "{deployment.model_base}"', lines)
    changed = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "lung-infection-models"},
        "data": {"models.config": config},
    }
    return {"patch": yaml.safe_dump(changed)}


def render(deployment: Deployment, folder: Path) -> list[dict[str, Any]]:
    """Write the kustomization into `folder`, and give the objects that kubectl makes of it.

    Raises:
        InputError: kubectl is missing, or refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "kustomization.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(kustomization(deployment, folder), sort_keys=False))
    return list(yaml.safe_load_all(output(["kubectl", "kustomize", str(folder)])))


def removable(objects: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What `down` deletes: everything but the namespace and the volumes, which hold the models."""
    return [item for item in objects if item["kind"] not in _KEPT]


def schema_mistakes(objects: Sequence[dict[str, Any]]) -> list[str]:
    """What the published schemas say against the objects; nothing where kubernetes-validate is not installed."""
    try:
        kubernetes_validate = importlib.import_module("kubernetes_validate")
    except ImportError:
        print("  not validated: kubernetes-validate is not installed")
        return []
    mistakes, custom = [], []
    for item in objects:
        try:
            kubernetes_validate.validate(item, _KUBERNETES, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            custom.append(item["kind"])  # the cluster alone knows its schema
        except kubernetes_validate.ValidationError as error:
            mistakes.append(f"{item['kind']} {item['metadata']['name']}: {error.message}")
    if not mistakes:
        left = f"; not {', '.join(custom)}, which a cluster extends them by" if custom else ""
        print(f"  {len(objects) - len(custom)} objects, valid by the schemas of Kubernetes {_KUBERNETES}{left}")
    return mistakes
