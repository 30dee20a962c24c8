"""The nodes of Argo's workflow of a run, which version 1 of the Kubeflow Pipelines API returns.

Sources: argo-workflows pkg/apis/workflow/v1alpha1/workflow_types.go (`NodeID`), workflow/controller/operator.go
(display names, attempts); kubeflow/pipelines backend/src/v2/compiler/argocompiler/dag.go and container.go (the nodes
of a task), backend/src/apiserver/server/api_converter.go (`toApiRunDetailV1`).
"""

import base64
import functools
import gzip
import json
import re
from typing import Any

ROOT = "counting-x7k2p"  # the workflow's name


def node_id(path: str) -> str:
    """Argo's id of a node: the workflow's name, and the 32-bit FNV-1a hash of the path."""
    digest = functools.reduce(lambda value, byte: (value ^ byte) * 0x01000193 & 0xFFFFFFFF, path.encode(), 0x811C9DC5)
    return path if path == ROOT else f"{ROOT}-{digest}"


class Workflow:
    """A workflow, whose nodes a test adds in the order in which Argo starts them.

    With `wrapped`, the controller has a retry strategy for all templates, as Kubeflow's manifests set it
    (third-party/argo/base/workflow-controller-configmap-patch.yaml). Every node then has a child for its attempt
    (argo-workflows, workflow/controller/operator.go, `executeTemplate` after `mergedTemplateDefaultsInto`). With
    `compressed`, the nodes exceed 1 MiB (workflow/packer/packer.go), and the API lists none of them
    (backend/src/apiserver/server/report_server.go).
    """

    def __init__(self, wrapped: bool = False, compressed: bool = False) -> None:
        """Start with the nodes of every pipeline."""
        self.wrapped, self.compressed = wrapped, compressed
        self.nodes: dict[str, dict[str, Any]] = {}
        self.add(ROOT, "Running")
        self.attempts(f"{ROOT}.root-driver", "Succeeded")
        self.add(f"{ROOT}.root", "Running", parent=ROOT)

    def add(self, path: str, phase: str, *, parent: str | None = None, **fields: Any) -> None:
        """Add a node, or change its phase; `parent` is what it is a child of, unless that is its container."""
        name = path.rpartition(".")[2]
        known = self.nodes.setdefault(path, {"name": path, "displayName": name, "type": "DAG", "children": []})
        known |= {"phase": phase, "id": node_id(path)} | fields
        parent = parent or path.rpartition(".")[0]
        if parent in self.nodes and node_id(path) not in self.nodes[parent]["children"]:
            self.nodes[parent]["children"].append(node_id(path))

    def attempts(self, path: str, *phases: str, **fields: Any) -> None:
        """Add a pod with a retry strategy: a node, with a child for each attempt."""
        self.add(path, phases[-1], type="Retry", **fields)
        for number, phase in enumerate(phases):
            self.add(f"{path}({number})", phase, parent=path, type="Pod", **fields)

    def step(self, path: str, phase: str, *attempts: str, **driver_fields: Any) -> None:
        """Add the nodes of a task that runs a container; without attempts it takes an earlier run's outputs."""
        self.attempts(f"{path}-driver", "Succeeded", **driver_fields)
        self.add(path, phase)
        if attempts:
            self.attempts(f"{path}.executor", *attempts)
        else:
            self.add(f"{path}.executor", "Skipped", type="Skipped")  # `when: cached-decision != true`

    def loop(self, path: str, *phases: str) -> list[str]:
        """Add the nodes of a loop; return the path of each iteration's tasks."""
        self.add(path, "Running")
        self.attempts(f"{path}.iteration-driver", "Succeeded")
        self.add(f"{path}.iteration-iterations", "Running")
        items = [f"{path}.iteration-iterations({index}:{index})" for index in range(len(phases))]
        for item, phase in zip(items, phases, strict=True):
            self.add(item, phase, parent=f"{path}.iteration-iterations")
            self.attempts(f"{item}.iteration-item-driver", "Succeeded")
            self.add(f"{item}.iteration-item", phase)
        return [f"{item}.iteration-item" for item in items]

    def all_nodes(self) -> list[dict[str, Any]]:
        """The nodes as the controller names them."""
        nodes = list(self.nodes.values())
        if not self.wrapped:
            return nodes
        retried = {node["name"] for node in nodes if node["type"] == "Retry"}
        result = []
        for node in nodes:
            *ancestors, last = re.split(r"\.(?![^(]*\))", node["name"])
            name = ".".join([*(f"{ancestor}(0)" for ancestor in ancestors), last])
            if node["type"] == "DAG":  # the node that retries it, and its attempt
                result.append(node | {"name": name, "type": "Retry"})
                name, last = f"{name}(0)", f"{last}(0)"
            elif node["type"] == "Pod" and node["name"].removesuffix("(0)") not in retried:
                last = node["displayName"]
            result.append(node | {"name": name, "displayName": last})
        return [node | {"id": node_id(node["name"])} for node in result]

    def run(self, state: str) -> dict[str, Any]:
        """The state of the run, and the workflow that the API then returns."""
        return {"state": state, "workflow": self.manifest()}

    def manifest(self) -> str:
        """The workflow as version 1 of the API returns it."""
        started = {"startedAt": "2026-01-01T00:00:00Z"}
        nodes = {node["id"]: started | node for node in self.all_nodes()}
        if not self.compressed:
            return json.dumps({"status": {"nodes": nodes}})
        packed = base64.b64encode(gzip.compress(json.dumps(nodes).encode())).decode()
        return json.dumps({"status": {"compressedNodes": packed}})


def driver_fields(task_name: str, uris: dict[str, str]) -> dict[str, Any]:
    """The input and output of a driver (argocompiler/container.go, v2/driver/driver.go `initPodSpecPatch`)."""
    outputs = {"artifacts": {name: {"artifacts": [{"name": name, "uri": uri}]} for name, uri in uris.items()}}
    command = [
        "/kfp-launcher/launch",
        "--pipeline_name",
        "counting",
        "--executor_input",
        json.dumps({"outputs": outputs}),
    ]
    patch = json.dumps({"containers": [{"name": "main", "command": [*command, "--"]}]}) if uris else ""
    return {
        "inputs": {"parameters": [{"name": "task", "value": json.dumps({"taskInfo": {"name": task_name}})}]},
        "outputs": {"parameters": [{"name": "pod-spec-patch", "value": patch}]},
    }
