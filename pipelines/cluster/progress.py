"""The progress and the outputs of a run on a Kubeflow cluster, by step.

A step `train` of a pipeline is a driver `train-driver`, the node `train` and in it `executor`, a pod for each attempt
(kubeflow/pipelines, backend/src/v2/compiler/argocompiler/{dag,container}.go). The API lists these nodes by their last
name only (backend/src/apiserver/server/api_converter.go, `toModelTasks`), and not at all once Argo compresses them. All
of them, with the iterations of loops in their names, are in Argo's workflow, which version 1 of the API returns
(`toApiRunDetailV1`). With a retry strategy for all templates, which Kubeflow installs by default, each node `X` of a
name is `X(0)`, `X(1)`, ….
"""

import base64
import gzip
import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.runtime.errors import InputError
from pipelines.cluster.connection import ApiClient, Cluster, LoginError, api_call
from pipelines.cluster.runs import run_link

_END_STATES = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")  # kfp's own wait never returns on CANCELED
_MAX_FAILED_POLLS = 5  # a restart of the API or of the port forwarding does not end the wait
_UI_SOURCES = {"gs": "gcs", "minio": "minio", "s3": "s3"}  # frontend/server/handlers/artifacts.ts
_ATTEMPT = re.compile(r"\(\d+\)")


@dataclass(frozen=True)
class StepState:
    """State of a step."""

    name: str  # display name, such as "Train U-Net"
    state: str  # RUNNING, SUCCEEDED, FAILED, SKIPPED or CANCELED
    iteration: tuple[int, ...] = ()  # index in each enclosing loop, outermost first
    attempts: int = 0  # pods started so far; 0 if an earlier run's outputs are used

    @property
    def label(self) -> str:
        """The name with the iteration, such as "Train U-Net [2]"."""
        return self.name + "".join(f" [{index}]" for index in self.iteration)

    @property
    def cached(self) -> bool:
        """Whether an earlier run's outputs were used."""
        return self.state == "SUCCEEDED" and not self.attempts


@dataclass(frozen=True)
class RunEnd:
    """End of a run: its id, its state (SUCCEEDED, FAILED, SKIPPED or CANCELED), the cluster's reason and the steps."""

    run_id: str
    state: str
    reason: str
    steps: tuple[StepState, ...] = ()  # in order of their start


def follow(cluster: Cluster, run_id: str, *, timeout_s: float, poll_s: float = 10.0) -> Iterator[StepState | RunEnd]:
    """Watch a run: yield a `StepState` for each change, then the `RunEnd`.

    Raises:
        InputError: the run takes longer than `timeout_s`, or the API is unreachable or no longer accepts the login.
    """
    link = run_link(cluster, run_id)
    deadline = time.monotonic() + timeout_s
    printed: dict[str, str] = {}  # states by path
    names: Mapping[str, str] = {}
    failed_polls = 0
    while True:
        try:
            run = _get_run(cluster, run_id)
            names = names or _step_names(_pipeline_spec(cluster, run))
            steps = _step_states(names, _read_nodes(cluster, run_id))
            failed_polls = 0
        except InputError as error:
            failed_polls += 1
            if isinstance(error, LoginError) or failed_polls > _MAX_FAILED_POLLS:
                raise InputError(f"{error}; run {run_id} continues on the cluster: {link}") from error
            time.sleep(poll_s)
            continue
        for path, step in steps.items():
            if printed.get(path) != step.state:
                printed[path] = step.state
                yield step
        if run.state in _END_STATES:
            yield RunEnd(run_id, run.state, (run.error.message if run.error else "") or "", tuple(steps.values()))
            return
        if time.monotonic() > deadline:
            raise InputError(f"run {run_id} is still running after {timeout_s:g} s; follow it at {link}")
        time.sleep(poll_s)


def read_artifact(cluster: Cluster, run_id: str, step: str, artifact: str, iteration: tuple[int, ...] = ()) -> bytes:
    """Read an output artifact of a step, a single file, through the UI's server.

    The API itself serves no artifact of version 2 (its path `artifacts/…:read` finds only those that Argo stores).
    The URI is in the step's pod specification, which the driver leaves in Argo's workflow.

    Args:
        cluster: address and credentials of an API with the UI, not of the API's own port.
        run_id: the run.
        step: display name of the step.
        artifact: name of the output.
        iteration: index in each enclosing loop.

    Raises:
        InputError: the step did not run (it is cached or skipped), it has no such output, or the file is unreadable.
    """
    client = cluster.connect()
    if not client.has_ui:
        raise InputError(f"{client.address}: serves no artifacts; expected the address of ml-pipeline-ui")
    uri = _artifact_uri(_read_nodes(cluster, run_id), step, artifact, iteration)
    scheme, _, location = uri.partition("://")
    with api_call(cluster.host):
        if scheme not in _UI_SOURCES:
            raise InputError(f"{uri}: the UI reads {', '.join(_UI_SOURCES)}")
        query = {"namespace": cluster.namespace} if cluster.namespace else {}
        return client.call(f"/artifacts/{_UI_SOURCES[scheme]}/{location}", query=query, response_type=None).data


def _get_run(cluster: Cluster, run_id: str) -> Any:
    """Read a run; once the login has expired, with a token that was renewed in its file, or after another login."""
    try:
        with api_call(cluster.host):
            return cluster.connect().get_run(run_id)
    except LoginError:
        client = cluster.reconnect()
        with api_call(cluster.host):
            return client.get_run(run_id)


def _pipeline_spec(cluster: Cluster, run: Any) -> dict[str, Any]:
    """The specification of a run's pipeline; with a platform specification beside it, it is one level deeper."""
    client: ApiClient = cluster.connect()
    version = run.pipeline_version_reference
    with api_call(cluster.host):
        spec = client.get_pipeline_version(version.pipeline_id, version.pipeline_version_id).pipeline_spec
    return spec.get("pipeline_spec", spec)


def _read_nodes(cluster: Cluster, run_id: str) -> list[dict[str, Any]]:
    """The nodes of a run's workflow in order of their start; a retried node precedes its attempts."""
    client: ApiClient = cluster.connect()
    with api_call(cluster.host):
        detail = client.call(f"/apis/v1beta1/runs/{run_id}")
    workflow = json.loads((detail.get("pipeline_runtime") or {}).get("workflow_manifest") or "{}")
    status = workflow.get("status") or {}
    nodes = status.get("nodes") or {}
    if compressed := status.get("compressedNodes"):  # above 1 MiB (argo-workflows, workflow/packer/packer.go)
        nodes = json.loads(gzip.decompress(base64.b64decode(compressed)))
    return sorted(nodes.values(), key=lambda node: (node.get("startedAt") or "", len(node["name"])))


def _step_states(names: Mapping[str, str], nodes: Sequence[Mapping[str, Any]]) -> dict[str, StepState]:
    """The state of each step that has one, by the path of its node without attempts; of several, the last one's."""
    pods = Counter(_ATTEMPT.sub("", node["name"]) for node in nodes if node["type"] == "Pod")
    steps: dict[str, StepState] = {}
    for node in nodes:
        path, state = _ATTEMPT.sub("", node["name"]), "FAILED" if node["phase"] == "Error" else node["phase"].upper()
        task = path.rpartition(".")[2]
        if node["name"].endswith(")") or state not in ("RUNNING", *_END_STATES):
            continue
        iteration = _iteration(path)
        if task in names:
            steps[path] = StepState(names[task], state, iteration, pods[f"{path}.executor"])
        elif task.endswith("-driver") and state == "FAILED":  # the node of its task is omitted
            key = [part for part in path.split(".") if not part.startswith("iteration-")][-1].removesuffix("-driver")
            steps[path] = StepState(f"{names.get(key, key)} (driver)", state, iteration)
    return steps


def _iteration(path: str) -> tuple[int, ...]:
    """The index in each enclosing loop, from the path of a node."""
    return tuple(map(int, re.findall(r"\((\d+):", path)))


def _step_names(spec: dict[str, Any]) -> dict[str, str]:
    """Display names of the tasks that run a container."""
    dags = [component["dag"] for component in (spec["root"], *spec["components"].values()) if "dag" in component]
    return {
        key: task["taskInfo"]["name"]
        for dag in dags
        for key, task in dag["tasks"].items()
        if "executorLabel" in spec["components"][task["componentRef"]["name"]]
    }


def _artifact_uri(nodes: list[dict[str, Any]], step: str, artifact: str, iteration: tuple[int, ...]) -> str:
    """The URI in the input of a step's launcher, from the driver's output (backend/src/v2/driver/driver.go)."""
    found = False
    for node in nodes:
        inputs, outputs = (
            {item["name"]: item.get("value") for item in (node.get(side) or {}).get("parameters") or []}
            for side in ("inputs", "outputs")
        )
        name = (json.loads(inputs.get("task") or "{}").get("taskInfo") or {}).get("name")
        if name != step or iteration != _iteration(node["name"]):
            continue
        found = True
        if patch := outputs.get("pod-spec-patch"):
            command = json.loads(patch)["containers"][0]["command"]
            executor_input = json.loads(command[command.index("--executor_input") + 1])
            artifacts = executor_input.get("outputs", {}).get("artifacts", {})
            if artifact not in artifacts:
                raise InputError(f"step {step!r}: no output {artifact!r}; expected one of {', '.join(artifacts)}")
            return artifacts[artifact]["artifacts"][0]["uri"]
    reason = "it has not started, or took an earlier run's outputs" if found else "the run has no such step"
    raise InputError(f"step {step!r}: no output {artifact!r}: {reason}")
