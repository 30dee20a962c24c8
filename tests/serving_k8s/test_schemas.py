"""Every object is one that the cluster's API takes, word for word."""

from typing import Any

import pytest

from tests.serving_k8s.rendering import COMBINATIONS, pod_specs, rendered

kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")

VERSIONS = ("1.30", "1.33")  # what managed clusters run; the schemas between them only add

# What the published CustomResourceDefinitions know of the objects we use; any other word is a mistake.
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
def test_every_object_is_valid_by_the_published_schemas(overlay, options, version):
    for item in rendered(overlay, options):
        custom = CUSTOM.get((item["apiVersion"], item["kind"]))
        if custom is None:
            kubernetes_validate.validate(item, version, strict=True)
        else:
            assert unknown_words(item, custom) == []


@pytest.mark.parametrize(("overlay", "options"), COMBINATIONS)
def test_every_pod_spec_is_valid_as_a_pod(overlay, options):
    for spec in pod_specs(rendered(overlay, options)):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "as-rendered"}, "spec": spec}
        kubernetes_validate.validate(pod, VERSIONS[0], strict=True)


def test_a_misspelt_word_is_refused():
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"selektor": {}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(service, VERSIONS[0], strict=True)


def test_a_misspelt_word_in_a_custom_object_is_told():
    item = {"spec": {"groups": [{"name": "x", "rules": [{"alarm": "y"}]}]}}
    custom = CUSTOM["monitoring.coreos.com/v1", "PrometheusRule"]
    assert unknown_words(item, custom) == ["spec.groups[].rules[].alarm"]


def unknown_words(item: dict[str, Any], known: dict[str, set[str]]) -> list[str]:
    """Words at the places of `known` that it does not list."""

    def at(path: str) -> list[Any]:
        places = [item]
        for name in path.split("."):
            places = [place[name.removesuffix("[]")] for place in places]
            if name.endswith("[]"):
                places = [entry for place in places for entry in place]
        return places

    return [f"{path}.{word}" for path, words in known.items() for place in at(path) for word in set(place) - words]
