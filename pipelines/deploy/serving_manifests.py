"""The serving manifests of a deployment: an overlay patched with its settings, rendered and validated."""

import importlib
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from components.runtime.files import atomic_write
from components.runtime.programs import ROOT, read_output
from pipelines.deploy.deployment import NAMESPACE, Deployment

_SCHEMAS = "1.33"  # Kubernetes version that objects are validated against
SERVED_CLAIM = "lung-infection-models"  # of overlays/local
_KEPT_KINDS = ("Namespace", "PersistentVolumeClaim")  # undeploy must never delete models
_log = logging.getLogger(__name__)


def build_kustomization(deployment: Deployment, folder: Path, k8s: Path = ROOT / "serving" / "k8s") -> dict[str, Any]:
    """Build a kustomization of the overlay, its options and the deployment's settings.

    Args:
        deployment: the settings.
        folder: the kustomization's folder, which its paths are relative to.
        k8s: folder of base, overlays and components.
    """
    relative = Path(os.path.relpath(k8s, folder))
    patches: list[dict[str, Any]] = []
    result: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": deployment.namespace,
        "resources": [str(relative / "overlays" / deployment.overlay)],
        "components": [str(relative / "components" / option) for option in deployment.options],
        "patches": patches,
    }
    if deployment.serving_digest and deployment.overlay == "kserve":
        # Kustomize's `images` applies to pod templates only.
        image = f"tensorflow/serving@{deployment.serving_digest}"
        patches.append(_replace_in_container("image", image))
    elif deployment.serving_digest:
        result["images"] = [{"name": "tensorflow/serving", "digest": deployment.serving_digest}]
    if deployment.namespace != NAMESPACE and deployment.overlay != "kserve":
        # An existing namespace: neither created nor labeled here.
        delete = {"$patch": "delete", "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        patches.append({"patch": yaml.safe_dump(delete)})
    if deployment.model_base and deployment.overlay == "kserve":
        patches.append(_replace_in_container("args/3", f"--model_base_path={deployment.model_base}"))
    elif deployment.model_base:
        patches.append(_models_config_patch(deployment, k8s))
    if deployment.gcp_service_account:
        annotations = {"iam.gke.io/gcp-service-account": deployment.gcp_service_account}
        metadata = {"name": "lung-infection", "annotations": annotations}
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
        patches.append({"patch": yaml.safe_dump(account)})
    return result


def _replace_in_container(field: str, value: str) -> dict[str, Any]:
    """A patch of the container in KServe's InferenceService."""
    replace = [{"op": "replace", "path": f"/spec/predictor/containers/0/{field}", "value": value}]
    return {"target": {"kind": "InferenceService"}, "patch": yaml.safe_dump(replace)}


def _models_config_patch(deployment: Deployment, k8s: Path) -> dict[str, Any]:
    """A patch of the model base in the overlay's models.config, which keeps the promoted labels."""
    overlay = "local" if deployment.overlay == "local" else "gcs"  # gpu builds on gcs
    text = (k8s / "overlays" / overlay / "models.config").read_text()
    config = re.sub(r'base_path: "[^"]*"', f'base_path: "{deployment.model_base}"', text)
    metadata, data = {"name": "lung-infection-models"}, {"models.config": config}
    return {"patch": yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})}


def render(deployment: Deployment, folder: Path) -> list[dict[str, Any]]:
    """Write the kustomization to `folder` and return the Kubernetes objects that kubectl renders from it.

    Raises:
        InputError: kubectl is missing or fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "kustomization.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(build_kustomization(deployment, folder), sort_keys=False))
    return list(yaml.safe_load_all(read_output(["kubectl", "kustomize", str(folder)])))


def removable_objects(objects: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The objects that undeploy deletes: all but the namespace and the volume claims, which hold the models."""
    return [item for item in objects if item["kind"] not in _KEPT_KINDS]


def validate_schemas(objects: Sequence[dict[str, Any]]) -> list[str]:
    """Validate objects against the Kubernetes schemas and return the errors; skipped without kubernetes-validate."""
    try:
        kubernetes_validate = importlib.import_module("kubernetes_validate")
    except ImportError:
        _log.warning("kubernetes-validate is not installed: objects were not validated")
        return []
    errors, custom = [], []
    for item in objects:
        try:
            kubernetes_validate.validate(item, _SCHEMAS, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            custom.append(item["kind"])  # only the cluster has its schema
        except kubernetes_validate.ValidationError as error:
            errors.append(f"{item['kind']} {item['metadata']['name']}: {error.message}")
    if not errors:
        note = f"; custom resources not validated: {', '.join(custom)}" if custom else ""
        _log.info("  %d objects match the Kubernetes %s schemas%s", len(objects) - len(custom), _SCHEMAS, note)
    return errors
