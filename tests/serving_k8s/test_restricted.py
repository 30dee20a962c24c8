"""Every pod meets the Pod Security Standard "restricted"; each rule detects its violation."""

import copy

import pytest

from tests.serving_k8s.rendering import COMBINATIONS, of_kind, pod_specs, render
from tests.serving_k8s.restricted import project_violations, violations

VALID_SPEC = {
    "automountServiceAccountToken": False,
    "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "server",
            "image": "tensorflow/serving:2.21.0",
            "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
        }
    ],
}


@pytest.mark.parametrize(("overlay", "options"), COMBINATIONS)
def test_every_pod_meets_restricted_and_our_rules(overlay, options):
    for spec in pod_specs(render(overlay, options)):
        assert violations(spec) == []
        assert project_violations(spec) == []


@pytest.mark.parametrize("overlay", ["local", "gcs", "gpu"])
def test_the_namespace_enforces_restricted(overlay):
    (namespace,) = of_kind(render(overlay), "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_a_valid_pod_has_no_violations():
    assert violations(VALID_SPEC) == project_violations(VALID_SPEC) == []


@pytest.mark.parametrize(
    ("path", "value", "violation"),
    [
        (["hostNetwork"], True, "hostNetwork is set"),
        (["hostPID"], True, "hostPID is set"),
        (["securityContext", "runAsNonRoot"], False, "runAsNonRoot is not true"),
        (["securityContext", "runAsUser"], 0, "runs as root"),
        (["securityContext", "seccompProfile"], {"type": "Unconfined"}, "seccompProfile is not RuntimeDefault"),
        (["volumes"], [{"name": "root", "hostPath": {"path": "/"}}], "volume root is a hostPath"),
        (["containers", 0, "securityContext", "privileged"], True, "is privileged"),
        (["containers", 0, "securityContext", "allowPrivilegeEscalation"], True, "may escalate privileges"),
        (["containers", 0, "securityContext", "capabilities"], {"drop": ["NET_RAW"]}, "keeps capabilities"),
        (["containers", 0, "securityContext", "capabilities", "add"], ["SYS_ADMIN"], "adds capabilities"),
        (["containers", 0, "securityContext", "procMount"], "Unmasked", "unmasks /proc"),
        (["containers", 0, "securityContext", "runAsUser"], 0, "runs as root"),
        (["containers", 0, "ports"], [{"containerPort": 8500, "hostPort": 8500}], "uses a host port"),
    ],
)
def test_each_violation_of_restricted_is_reported(path, value, violation):
    spec = copy.deepcopy(VALID_SPEC)
    *parents, last = path
    target = spec
    for name in parents:
        target = target[name]
    target[last] = value
    assert any(violation in line for line in violations(spec))


def test_init_containers_are_checked():
    spec = copy.deepcopy(VALID_SPEC) | {"initContainers": [{"name": "first", "image": "x:1"}]}
    assert "first: may escalate privileges" in violations(spec)
    assert "first: the root file system is writable" in project_violations(spec)


@pytest.mark.parametrize("image", ["tensorflow/serving", "tensorflow/serving:latest", "registry:5000/serving"])
def test_an_unpinned_image_is_reported(image):
    spec = copy.deepcopy(VALID_SPEC)
    spec["containers"][0]["image"] = image
    assert project_violations(spec) == [f"server: {image} is not pinned"]
