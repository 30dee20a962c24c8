"""The Pod Security Standard "restricted" as checks of a pod spec, and this project's additional rules.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from collections.abc import Iterator
from typing import Any

_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def violations(spec: dict[str, Any]) -> list[str]:
    """List the violations of "restricted" in a pod spec."""
    problems = [f"{name} is set" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    pod = spec.get("securityContext", {})
    problems += [f"pod: {problem}" for problem in _check_identity(pod, {})]
    for volume in spec.get("volumes", []):
        problems += [f"volume {volume['name']} is a {kind}" for kind in set(volume) - {"name"} - _VOLUMES]
    for container in _containers(spec):
        problems += [f"{container['name']}: {problem}" for problem in _check_container(container, pod)]
    return problems


def project_violations(spec: dict[str, Any]) -> list[str]:
    """List the violations of our rules: read-only root, no API token, a memory limit, requests, pinned images."""
    problems = [] if spec.get("automountServiceAccountToken") is False else ["the API token is mounted"]
    for container in _containers(spec):
        name = container["name"]
        if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            problems.append(f"{name}: the root file system is writable")
        resources = container.get("resources", {})
        if "memory" not in resources.get("limits", {}) or not {"cpu", "memory"} <= set(resources.get("requests", {})):
            problems.append(f"{name}: no memory limit, or no requests")
        tag = container["image"].rsplit("/", 1)[-1].partition(":")[2]
        if not tag or tag == "latest":
            problems.append(f"{name}: {container['image']} is not pinned")
    return problems


def _containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec.get("initContainers", []), *spec["containers"], *spec.get("ephemeralContainers", [])]


def _check_identity(context: dict[str, Any], pod_context: dict[str, Any]) -> Iterator[str]:
    effective = {**pod_context, **context}
    if effective.get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    if effective.get("runAsUser") == 0:
        yield "runs as root"
    if effective.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile is not RuntimeDefault"


def _check_container(container: dict[str, Any], pod_context: dict[str, Any]) -> Iterator[str]:
    context = container.get("securityContext", {})
    yield from _check_identity(context, pod_context)
    if context.get("privileged"):
        yield "is privileged"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "may escalate privileges"
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield "keeps capabilities"
    if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "adds capabilities"
    if context.get("procMount", "Default") != "Default":
        yield "unmasks /proc"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "uses a host port"
