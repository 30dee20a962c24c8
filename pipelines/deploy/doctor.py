"""Whether this machine can deploy: tools, versions, credentials, and the clusters' answers."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from components.runtime.errors import InputError
from pipelines.deploy.deployment import Deployment
from pipelines.deploy.shell import output

_OLDEST_KUBECTL = (1, 27)  # with kustomize 5, which the components need
_TIMEOUT_S = 10


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `remedy` says how to get it where it is missing."""

    what: str
    sound: bool
    found: str
    remedy: str = ""


def report(deployment: Deployment) -> bool:
    """Print what was found, a line each; give whether everything is there."""
    findings = list(examined(deployment))
    for finding in findings:
        print(f"{'ok     ' if finding.sound else 'MISSING'}  {finding.what:<16} {finding.found}", flush=True)
        if not finding.sound:
            print(f"{'':<25} {finding.remedy}", flush=True)
    return all(finding.sound for finding in findings)


def examined(deployment: Deployment) -> Iterator[Finding]:
    """Look at everything that a deployment needs."""
    yield _engine(deployment.engine)
    if deployment.registry:
        yield _registry(deployment)
    kubectl = _kubectl()
    yield kubectl
    if kubectl.sound:
        yield _cluster()
        yield _rights(deployment.namespace)
    yield _pipelines(deployment)


def _engine(name: str) -> Finding:
    remedy = f"install {name}, or name the other by ENGINE=docker or ENGINE=podman"
    if shutil.which(name) is None:
        return Finding(name, False, "not installed", remedy)
    said = _said([name, "version", "--format", "{{.Client.Version}}"])
    return Finding(name, True, said) if said else Finding(name, False, "does not answer", f"start {name}'s service")


def _registry(deployment: Deployment) -> Finding:
    host = deployment.registry.split("/")[0]
    helper = f", or: gcloud auth configure-docker {host}" if host.endswith("pkg.dev") else ""
    said = _said([deployment.engine, "login", "--get-login", host]) if deployment.engine == "podman" else ""
    if said or _docker_knows(host):
        return Finding("registry", True, f"credentials for {host}")
    return Finding("registry", False, f"no credentials for {host}", f"{deployment.engine} login {host}{helper}")


def _docker_knows(host: str) -> bool:
    try:
        settings = json.loads((Path.home() / ".docker" / "config.json").read_text())
    except (OSError, ValueError):
        return False
    return host in {**settings.get("auths", {}), **settings.get("credHelpers", {})} or "credsStore" in settings


def _kubectl() -> Finding:
    remedy = f"install kubectl {'.'.join(map(str, _OLDEST_KUBECTL))} or later: https://kubernetes.io/docs/tasks/tools/"
    said = _said(["kubectl", "version", "--client", "-o", "json"])
    if not said:
        return Finding("kubectl", False, "not installed", remedy)
    version = json.loads(said)["clientVersion"]
    number = int(version["major"]), int("".join(filter(str.isdigit, version["minor"])))
    return Finding("kubectl", number >= _OLDEST_KUBECTL, version["gitVersion"], remedy)


def _cluster() -> Finding:
    said = _said(["kubectl", "get", "--raw", "/readyz", f"--request-timeout={_TIMEOUT_S}s"])
    remedy = "choose a context (kubectl config use-context …), or: gcloud container clusters get-credentials NAME"
    return Finding("cluster", said == "ok", "answers" if said == "ok" else "does not answer", remedy)


def _rights(namespace: str) -> Finding:
    said = _said(
        ["kubectl", "auth", "can-i", "create", "deployments", "-n", namespace, f"--request-timeout={_TIMEOUT_S}s"]
    )
    remedy = f"ask for the role edit in namespace {namespace}"
    found = f"may {'' if said == 'yes' else 'not '}deploy to {namespace}"
    return Finding("rights", said == "yes", found, remedy)


def _pipelines(deployment: Deployment) -> Finding:
    from pipelines.cluster.connection import Cluster, answers

    remedy = "give the address by HOST=…, or: kubectl port-forward -n kubeflow svc/ml-pipeline 8888, and HOST=http://localhost:8888"
    try:
        answers(Cluster(deployment.host, deployment.kfp_namespace, deployment.token_file))
    except InputError as error:
        return Finding("pipelines API", False, str(error), remedy)
    return Finding("pipelines API", True, f"{deployment.host or 'in this cluster'} answers")


def _said(command: list[str]) -> str:
    """What a command prints, or nothing where it is missing or fails."""
    try:
        return output(command, timeout_s=2 * _TIMEOUT_S).strip()
    except (InputError, subprocess.TimeoutExpired):
        return ""
