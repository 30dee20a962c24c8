"""A kubectl with a cluster in a folder; it rejects what Kubernetes' API server rejects.

Its rules are from kubernetes/kubernetes: immutable fields from pkg/apis/{apps,batch,core}/validation/validation.go, a
missing namespace from plugin/pkg/admission/namespace/lifecycle. Server-side apply decodes fields strictly.
"""

import json
import os
import sys
from pathlib import Path

import kubernetes_validate
import yaml

_IMMUTABLE = {"Job": ("template", "selector"), "Deployment": ("selector",), "StatefulSet": ("serviceName", "selector")}
_NAMESPACES = ("default", "kubeflow")
_SHORT = {"pvc": "persistentvolumeclaim", "pods": "pod"}


class Rejected(Exception):
    """An error that kubectl prints."""


class Cluster:
    """Objects by namespace, kind and name; what goes wrong are files of the folder."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.path = state / "objects.yaml"
        self.objects = yaml.safe_load(self.path.read_text()) if self.path.exists() else {}

    def save(self) -> None:
        self.path.write_text(yaml.safe_dump(self.objects))

    def apply(self, items):
        for item in items:
            kind, metadata = item["kind"], item["metadata"]
            name, namespace = metadata["name"], metadata.get("namespace", "default")
            self._validate(item)
            if (
                kind != "Namespace"
                and namespace not in _NAMESPACES
                and f"default/namespace/{namespace}" not in self.objects
            ):
                raise Rejected(f'Error from server (NotFound): namespaces "{namespace}" not found')
            key = f"{namespace}/{kind.lower()}/{name}"
            old = self.objects.get(key, {})
            for field in _IMMUTABLE.get(kind, ()):
                if old and old["spec"].get(field) != item["spec"].get(field):
                    raise Rejected(f'The {kind} "{name}" is invalid: spec.{field}: Invalid value: field is immutable')
            if kind == "PersistentVolumeClaim" and old and old["spec"] != item["spec"]:
                raise Rejected(
                    f'The {kind} "{name}" is invalid: spec: Forbidden: spec is immutable after creation except '
                    "resources.requests and volumeAttributesClassName for bound claims"
                )
            if kind == "Job":
                item = self._run(item)
            annotations = {**old.get("metadata", {}).get("annotations", {}), **metadata.get("annotations", {})}
            self.objects[key] = {**item, "metadata": {**metadata, "annotations": annotations}}

    def _validate(self, item):
        try:
            kubernetes_validate.validate(item, "1.33", strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            pass  # a custom resource
        except kubernetes_validate.ValidationError as error:
            raise Rejected(f"Error from server (BadRequest): failed to create typed patch object: {error}") from error

    def _run(self, job):
        """End the Job at once: `job-log` is the log of a pod that fails, `job-waits` the message of one that waits."""
        if (self.state / "job-waits").exists():
            return {**job, "status": {"active": 1}}
        kind = "Failed" if (self.state / "job-log").exists() else "Complete"
        return {**job, "status": {"conditions": [{"type": kind, "status": "True"}]}}

    def find(self, namespace, kind, name):
        kind = _SHORT.get(kind, kind)
        try:
            return self.objects[f"{namespace}/{kind}/{name}"]
        except KeyError:
            raise Rejected(f'Error from server (NotFound): {kind}s "{name}" not found') from None


def main(state, kubectl, arguments):
    """Run one command on the cluster in the folder `state`."""
    if arguments[0] == "kustomize":
        os.execv(kubectl, [kubectl, *arguments])
    cluster = Cluster(state)
    options = dict(word.split("=", 1) for word in arguments if word.startswith("--") and "=" in word)
    namespace = options.get("--namespace", "default")
    words = [word for word in arguments if not word.startswith("--")]
    command, *rest = words
    if command == "apply":
        source = "kustomize" if rest[0] == "-k" else "-f"
        text = os.popen(f"{kubectl} kustomize {rest[1]}").read() if source == "kustomize" else Path(rest[1]).read_text()
        cluster.apply(list(yaml.safe_load_all(text)))
    elif command == "get" and rest[0] == "pods":
        waiting = {"reason": "ImagePullBackOff", "message": (state / "job-waits").read_text()}
        pod = {"status": {"containerStatuses": [{"state": {"waiting": waiting}}]}}
        print(json.dumps({"items": [pod]}))
    elif command == "get":
        print(json.dumps(cluster.find(namespace, rest[0], rest[1])))
    elif command == "annotate":
        kind, name = rest[0].split("/")
        annotations = dict(word.split("=", 1) for word in rest[1:])
        cluster.find(namespace, kind, name)["metadata"].setdefault("annotations", {}).update(annotations)
    elif command == "logs":
        print((state / "job-log").read_text())
    elif command == "rollout":
        cluster.find(namespace, *rest[1].split("/"))
        (state / "rolled-out").touch()
    elif command == "delete" and rest[0] == "-f":
        (state / "deleted.yaml").write_text(Path(rest[1]).read_text())
    elif command == "delete":
        cluster.objects.pop(f"{namespace}/{rest[0]}", None)
    else:
        raise Rejected(f"error: unknown command {command}")
    cluster.save()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
    except Rejected as rejected:
        sys.exit(str(rejected))
