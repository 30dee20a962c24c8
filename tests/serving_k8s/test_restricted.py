"""Pod Security "restricted" throughout, by rules that are shown to bite."""

import copy

import pytest

from tests.serving_k8s.rendering import COMBINATIONS, of_kind, pod_specs, rendered
from tests.serving_k8s.restricted import beyond, violations

SOUND = {
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
def test_every_pod_keeps_to_restricted_and_to_our_rules(overlay, options):
    for spec in pod_specs(rendered(overlay, options)):
        assert violations(spec) == []
        assert beyond(spec) == []


@pytest.mark.parametrize("overlay", ["local", "gcs", "gpu"])
def test_the_namespace_enforces_restricted(overlay):
    (namespace,) = of_kind(rendered(overlay), "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_a_sound_pod_breaks_nothing():
    assert violations(SOUND) == beyond(SOUND) == []


@pytest.mark.parametrize(
    ("path", "value", "told"),
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
        (["containers", 0, "ports"], [{"containerPort": 8500, "hostPort": 8500}], "takes a port of the node"),
    ],
)
def test_each_breach_of_restricted_is_told(path, value, told):
    spec = copy.deepcopy(SOUND)
    *parents, last = path
    place = spec
    for name in parents:
        place = place[name]
    place[last] = value
    assert any(told in line for line in violations(spec))


def test_an_init_container_is_held_to_the_same_rules():
    spec = copy.deepcopy(SOUND) | {"initContainers": [{"name": "first", "image": "x:1"}]}
    assert "first: may escalate privileges" in violations(spec)
    assert "first: the root file system is writable" in beyond(spec)


@pytest.mark.parametrize("image", ["tensorflow/serving", "tensorflow/serving:latest", "registry:5000/serving"])
def test_an_image_that_is_not_pinned_is_told(image):
    spec = copy.deepcopy(SOUND)
    spec["containers"][0]["image"] = image
    assert beyond(spec) == [f"server: {image} is not pinned"]
