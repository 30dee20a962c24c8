"""Volume claims that steps write to, each made writable by a Job.

Kubeflow's pods have no `fsGroup` (backend/src/v2/compiler/argocompiler/security_context.go): a new volume belongs to
root, and the images' user 10001 cannot write it. The Job's pod has one. For it, the kubelet gives the volume to the
group, adds g+rwx, and setgid so that new files belong to the group too (pkg/volume/volume_linux.go). This is stored in
the volume's file system, so it holds for later pods without `fsGroup`.
"""

import json
import logging
import time
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from components.runtime.errors import InputError
from components.runtime.files import atomic_write
from components.runtime.programs import log_command, read_output, run
from pipelines.deploy.deployment import Deployment
from pipelines.deploy.serving_manifests import validate_schemas

USER = 10001  # user and group of the images (images/Dockerfile) and of the servers
PREPARED = "lung-ct/writable-by"  # annotation of a prepared claim: a mounted volume may be bound to another node
_TIMEOUT_S = 600.0  # to create the volume, pull the image and run the pod
_POLL_S = 2.0
# Some drivers ignore `fsGroup`: NFS, hostPath, most ReadWriteMany volumes (pkg/volume/csi/csi_mounter.go).
_SCRIPT = """file=$1/.writable-$$
if (: > "$file") 2>/dev/null && rm "$file"; then exit 0; fi
owner=$(stat -c '%u:%g, mode %a' "$1")
echo "$2: user $(id -u):$(id -g) cannot write the volume ($owner), because its driver ignores fsGroup; expected group \
$(id -g) with mode 2775; run chgrp and chmod on the storage, or use another storage class"
exit 1
"""
_log = logging.getLogger(__name__)


def prepare_claims(deployment: Deployment, folder: Path, *, dry_run: bool = False) -> None:
    """Make the claims of models and checkpoints writable for the steps; skip those that already are.

    The claim of source data is only read: whoever fills it decides who may read it.

    Raises:
        InputError: a claim does not exist, or its Job fails or does not end in time.
    """
    execute = log_command if dry_run else run
    for claim in filter(None, (deployment.model_claim, deployment.checkpoint_claim)):
        namespace = f"--namespace={deployment.runs_namespace}"
        if not dry_run and _is_prepared(claim, deployment.runs_namespace):
            _log.info("  %s: already writable by %d", claim, USER)
            continue
        job = build_job(claim, deployment)
        name = job["metadata"]["name"]
        path = folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_text(yaml.safe_dump(job))
        if errors := validate_schemas([job]):
            raise InputError("claims: " + "; ".join(errors))
        # A Job's template is immutable: applying another image over an earlier Job would fail.
        execute(["kubectl", "delete", namespace, "--ignore-not-found", "--cascade=foreground", f"job/{name}"])
        execute(["kubectl", "apply", "--server-side", "--force-conflicts", "-f", str(path)])
        if not dry_run:
            _wait(name, deployment.runs_namespace)
        execute(
            ["kubectl", "annotate", namespace, "--overwrite", f"persistentvolumeclaim/{claim}", f"{PREPARED}={USER}"]
        )


def build_job(claim: str, deployment: Deployment) -> dict[str, Any]:
    """Build the Job that makes a claim writable and proves it as the steps' user and group."""
    name = f"prepare-{claim}"[:63].rstrip("-.")
    labels = {"app.kubernetes.io/name": "lung-ct-prepare-claim", "app.kubernetes.io/part-of": "lung-ct"}
    container = {
        "name": "prepare",
        "image": deployment.image("data"),
        "command": ["sh", "-c", _SCRIPT, "prepare", "/volume", f"claim {claim}"],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "volume", "mountPath": "/volume"}],
    }
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,  # as without `fsGroup`: what the Job can write, the steps can
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "volume", "persistentVolumeClaim": {"claimName": claim}}],
    }
    if deployment.image_pull_secret:
        spec["imagePullSecrets"] = [{"name": deployment.image_pull_secret}]
    # A profile's namespace injects Istio's sidecar, which never ends, and then the Job does not either.
    pod = {"metadata": {"labels": {**labels, "sidecar.istio.io/inject": "false"}}, "spec": spec}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": deployment.runs_namespace, "labels": labels},
        "spec": {"backoffLimit": 0, "ttlSecondsAfterFinished": 600, "template": pod},
    }


def _is_prepared(claim: str, namespace: str) -> bool:
    try:
        stored = json.loads(read_output(["kubectl", "get", f"--namespace={namespace}", "pvc", claim, "-o", "json"]))
    except InputError as error:
        raise InputError(
            f"claim {claim}: {error}; expected it in namespace {namespace}; create it by kubectl apply -n {namespace} "
            "-f serving/k8s/overlays/local/volume_claim.yaml, with this name"
        ) from error
    return stored["metadata"].get("annotations", {}).get(PREPARED) == str(USER)


def _wait(name: str, namespace: str) -> None:
    """Wait until a Job ends; raise `InputError` with the last line of its pod's log, or with why the pod waits."""
    kubectl = ["kubectl", f"--namespace={namespace}"]
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline:
        status = json.loads(read_output([*kubectl, "get", "job", name, "-o", "json"])).get("status", {})
        ended = {item["type"] for item in status.get("conditions", []) if item["status"] == "True"}
        if "Complete" in ended:
            return
        if "Failed" in ended:
            lines = read_output([*kubectl, "logs", f"job/{name}"]).strip().splitlines()
            raise InputError(lines[-1] if lines else f"job {name} failed without a message; run again")
        time.sleep(_POLL_S)
    pods = json.loads(read_output([*kubectl, "get", "pods", f"--selector=job-name={name}", "-o", "json"]))["items"]
    reason = "; ".join(_waiting_reasons(pods)) or "its pod does not start"
    raise InputError(f"job {name} in namespace {namespace}: {reason}; expected it to end within {_TIMEOUT_S:g} s")


def _waiting_reasons(pods: list[dict[str, Any]]) -> list[str]:
    """List why pods do not run: not scheduled, or an image that cannot be pulled."""
    reasons = []
    for status in (pod.get("status", {}) for pod in pods):
        reasons += [item["message"] for item in status.get("conditions", []) if item.get("reason") == "Unschedulable"]
        waiting = [container.get("state", {}).get("waiting", {}) for container in status.get("containerStatuses", [])]
        reasons += [f"{state['reason']}: {state.get('message', '')}" for state in waiting if "reason" in state]
    return reasons
