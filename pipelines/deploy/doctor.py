"""Checks whether this machine can deploy: tools, versions, credentials and clusters."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from components.runtime.errors import InputError
from components.runtime.programs import read_output
from pipelines.cluster.connection import check_api
from pipelines.deploy.deployment import Deployment, Engine

_MIN_KUBECTL = (1, 27)  # includes kustomize 5, which the manifests' components need
_TIMEOUT_S = 10


@dataclass(frozen=True)
class Check:
    """Result of one check; `remedy` applies if it failed."""

    name: str
    passed: bool
    result: str
    remedy: str = ""


def print_report(deployment: Deployment) -> bool:
    """Print a line for each check, and the remedy of each failed one; return whether all passed."""
    all_passed = True
    for check in run_checks(deployment):
        all_passed &= check.passed
        print(f"{'ok     ' if check.passed else 'MISSING'}  {check.name:<16} {check.result}", flush=True)
        if not check.passed:
            print(f"{'':<25} {check.remedy}", flush=True)
    return all_passed


def run_checks(deployment: Deployment) -> Iterator[Check]:
    """Check everything that the deployment needs."""
    engine = deployment.engine
    version = _read([engine, "version", "--format", "{{.Client.Version}}"])
    remedy = f"install {engine} and start its service, or choose the other engine: ENGINE=docker or ENGINE=podman"
    yield Check(engine, version is not None, version or "not installed or not running", remedy)
    if deployment.registry:
        yield _check_registry(engine, deployment.registry)
    kubectl = _check_kubectl()
    yield kubectl
    if kubectl.passed:
        yield from _check_cluster(deployment.namespace)
    yield _check_pipelines_api(deployment)


def _check_registry(engine: Engine, registry: str) -> Check:
    host = registry.split("/")[0]
    podman_user = _read([engine, "login", "--get-login", host]) if engine == "podman" else None
    has_credentials = bool(podman_user) or _has_docker_credentials(host)
    hint = f", or: gcloud auth configure-docker {host}" if host.endswith("pkg.dev") else ""
    result = f"{'' if has_credentials else 'no '}credentials for {host}"
    return Check("registry", has_credentials, result, f"{engine} login {host}{hint}")


def _has_docker_credentials(host: str) -> bool:
    try:
        settings = json.loads((Path.home() / ".docker" / "config.json").read_text())
    except (OSError, ValueError):
        return False
    return host in {**settings.get("auths", {}), **settings.get("credHelpers", {})} or "credsStore" in settings


def _check_kubectl() -> Check:
    remedy = f"install kubectl {'.'.join(map(str, _MIN_KUBECTL))} or later: https://kubernetes.io/docs/tasks/tools/"
    output = _read(["kubectl", "version", "--client", "-o", "json"])
    if output is None:
        return Check("kubectl", False, "not installed", remedy)
    version = json.loads(output)["clientVersion"]
    number = int(version["major"]), int("".join(filter(str.isdigit, version["minor"])))
    return Check("kubectl", number >= _MIN_KUBECTL, version["gitVersion"], remedy)


def _check_cluster(namespace: str) -> Iterator[Check]:
    timeout = f"--request-timeout={_TIMEOUT_S}s"
    is_ready = _read(["kubectl", "get", "--raw", "/readyz", timeout]) == "ok"
    remedy = "select a context: kubectl config use-context …, or: gcloud container clusters get-credentials NAME"
    yield Check("cluster", is_ready, "reachable" if is_ready else "unreachable", remedy)
    is_allowed = _read(["kubectl", "auth", "can-i", "create", "deployments", "-n", namespace, timeout]) == "yes"
    result = f"deploying to {namespace} is {'allowed' if is_allowed else 'denied'}"
    yield Check("permission", is_allowed, result, f"request the role edit in namespace {namespace}")


def _check_pipelines_api(deployment: Deployment) -> Check:
    cluster = deployment.cluster
    try:
        check_api(cluster)
    except InputError as error:
        forward = "kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80, then HOST=http://localhost:8080"
        return Check("pipelines API", False, str(error), f"set HOST=… and TOKEN_FILE=…, or: {forward}")
    client = cluster.connect()
    has_namespace = cluster.namespace is not None or not client.is_multi_user
    result = f"{client.address}: reachable{'' if has_namespace else ', but has several users'}"
    return Check("pipelines API", has_namespace, result, "set KFP_NAMESPACE=… to the namespace of your profile")


def _read(command: list[str]) -> str | None:
    """Read the output of a command; None if it is missing, fails or prints nothing."""
    try:
        return read_output(command, timeout_s=2 * _TIMEOUT_S).strip() or None
    except InputError:
        return None
