"""Every object is valid in the schemas of the Kubernetes API and of the custom resources."""

from typing import Any

import pytest

from tests.serving_k8s.rendering import COMBINATIONS, pod_specs, render

kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")

VERSIONS = ("1.30", "1.33")  # oldest and newest of the managed clusters; the schemas between them only add fields

# The fields of the published CustomResourceDefinitions in the objects we use.
CUSTOM: dict[tuple[str, str], dict[str, set[str]]] = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): {
        "spec": {"selector", "endpoints", "namespaceSelector", "jobLabel"},
        "spec.endpoints[]": {"port", "path", "interval", "scheme", "scrapeTimeout"},
    },
    ("monitoring.coreos.com/v1", "PrometheusRule"): {
        "spec": {"groups"},
        "spec.groups[]": {"name", "rules", "interval"},
        "spec.groups[].rules[]": {"alert", "expr", "for", "labels", "annotations"},
    },
    ("serving.kserve.io/v1beta1", "InferenceService"): {"spec": {"predictor"}},
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("overlay", "options"), COMBINATIONS)
def test_every_object_is_valid(overlay, options, version):
    for item in render(overlay, options):
        custom = CUSTOM.get((item["apiVersion"], item["kind"]))
        if custom is None:
            kubernetes_validate.validate(item, version, strict=True)
        else:
            assert unknown_fields(item, custom) == []


@pytest.mark.parametrize(("overlay", "options"), COMBINATIONS)
def test_every_pod_spec_is_valid(overlay, options):
    for spec in pod_specs(render(overlay, options)):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}
        kubernetes_validate.validate(pod, VERSIONS[0], strict=True)


def test_a_misspelled_field_is_an_error():
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"selektor": {}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(service, VERSIONS[0], strict=True)


def test_a_misspelled_field_of_a_custom_resource_is_reported():
    item = {"spec": {"groups": [{"name": "x", "rules": [{"alarm": "y"}]}]}}
    custom = CUSTOM["monitoring.coreos.com/v1", "PrometheusRule"]
    assert unknown_fields(item, custom) == ["spec.groups[].rules[].alarm"]


def unknown_fields(item: dict[str, Any], known: dict[str, set[str]]) -> list[str]:
    """List the fields at the paths of `known` that it does not contain."""

    def at(path: str) -> list[Any]:
        nodes = [item]
        for name in path.split("."):
            nodes = [node[name.removesuffix("[]")] for node in nodes]
            if name.endswith("[]"):
                nodes = [entry for node in nodes for entry in node]
        return nodes

    return [f"{path}.{field}" for path, fields in known.items() for node in at(path) for field in set(node) - fields]
