"""The progress and the outputs of a run on a Kubeflow cluster, by step.

The API lists Argo's nodes by their last name only (kubeflow/pipelines, backend/src/apiserver/server/api_converter.go,
`toModelTasks`). A step `train` is a driver `train-driver`, the node `train` and in it `executor`, with `executor(0)`,
`executor(1)`, … for its attempts; in a loop, each of them once for each iteration. A node's children are given by the
hash of their path (argo-workflows, pkg/apis/workflow/v1alpha1/workflow_types.go, `NodeID`): the paths in the
pipeline's specification tell the iterations apart.
"""

import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from components.runtime.errors import InputError
from pipelines.cluster.connection import ApiClient, Cluster, LoginError, api_call
from pipelines.cluster.runs import run_link

_END_STATES = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")  # kfp's own wait never returns on CANCELED
_MAX_FAILED_POLLS = 5  # a restart of the API or of the port forwarding does not end the wait
_UI_SOURCES = {"gs": "gcs", "minio": "minio", "s3": "s3"}  # frontend/server/handlers/artifacts.ts


@dataclass(frozen=True)
class StepState:
    """State of a step; loops add an iteration, retries add attempts."""

    name: str  # display name, such as "Train U-Net"
    state: str  # RUNNING, SUCCEEDED, FAILED, SKIPPED, …
    iteration: tuple[int, ...] = ()  # index in each enclosing loop, outermost first
    attempts: int = 0  # pods started so far; 0 if the API does not tell
    cached: bool | None = None  # whether an earlier run's outputs were used; None if the API does not tell

    @property
    def label(self) -> str:
        """The name with the iteration, such as "Train U-Net [2]"."""
        return self.name + "".join(f" [{index}]" for index in self.iteration)


@dataclass(frozen=True)
class RunEnd:
    """End of a run: its id, its state (SUCCEEDED, FAILED, SKIPPED or CANCELED), the cluster's reason and all steps."""

    run_id: str
    state: str
    reason: str
    steps: tuple[StepState, ...] = ()


def follow(cluster: Cluster, run_id: str, *, timeout_s: float, poll_s: float = 10.0) -> Iterator[StepState | RunEnd]:
    """Watch a run: yield a `StepState` for each change, then the `RunEnd`.

    Raises:
        InputError: the run takes longer than `timeout_s`, or the API is unreachable or no longer accepts the login.
    """
    link = run_link(cluster, run_id)
    deadline = time.monotonic() + timeout_s
    printed: dict[str, str] = {}
    spec: dict[str, Any] = {}
    failed_polls = 0
    while True:
        try:
            run = _get_run(cluster, run_id)
            spec = spec or _pipeline_spec(cluster, run)
            failed_polls = 0
        except InputError as error:
            failed_polls += 1
            if isinstance(error, LoginError) or failed_polls > _MAX_FAILED_POLLS:
                raise InputError(f"{error}; run {run_id} continues on the cluster: {link}") from error
            time.sleep(poll_s)
            continue
        tasks = (run.run_details.task_details if run.run_details else None) or []
        steps = _read_steps(spec, tasks)
        for task_id, step in steps.items():
            if printed.get(task_id) != step.state:
                printed[task_id] = step.state
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
    with api_call(cluster.host):
        detail = client.call(f"/apis/v1beta1/runs/{run_id}")
        workflow = json.loads((detail.get("pipeline_runtime") or {}).get("workflow_manifest") or "{}")
        nodes = (workflow.get("status") or {}).get("nodes") or {}
        uri = _artifact_uri(list(nodes.values()), step, artifact, iteration)
        scheme, _, location = uri.partition("://")
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


def _read_steps(spec: dict[str, Any], tasks: Sequence[Any]) -> dict[str, StepState]:
    """The state of each step that has one, by the id of its node, in order of their start."""
    names = _step_names(spec)
    states: dict[str, StepState] = {}
    for task in sorted(tasks, key=lambda task: (str(task.start_time), task.task_id)):
        key, is_driver = task.display_name.removesuffix("-driver"), task.display_name.endswith("-driver")
        if task.display_name in names and task.state in ("RUNNING", *_END_STATES):
            states[task.task_id] = StepState(names[key], task.state)
        elif is_driver and key in names and task.state == "FAILED":  # no pod: the step's node is omitted
            states[task.task_id] = StepState(f"{names[key]} (driver)", task.state)
    root = next((task.display_name for task in tasks if _is_root(task)), None)
    if root is None:
        return states
    ids = {child for task in tasks for child in _children(task)}
    owners = {child: task for task in tasks for child in _children(task) if task.display_name in names}
    may_be_pods = any(
        task.display_name == "executor" and task.state != "SKIPPED" and not task.child_tasks for task in tasks
    )
    for path, iteration in _step_paths(spec, spec["root"], f"{root}.root", root, ids, ()):
        owner = owners.get(_node_id(root, f"{path}.executor"))
        if owner is None or owner.task_id not in states:
            continue
        attempts = 0
        while _node_id(root, f"{path}.executor({attempts})") in ids:
            attempts += 1
        cached = None if attempts == 0 and may_be_pods else attempts == 0 and owner.state == "SUCCEEDED"
        state = states[owner.task_id]
        states[owner.task_id] = replace(state, iteration=iteration, attempts=attempts, cached=cached)
    return states


def _step_names(spec: dict[str, Any]) -> dict[str, str]:
    """Display names of the tasks that run a container."""
    dags = [component["dag"] for component in (spec["root"], *spec["components"].values()) if "dag" in component]
    return {
        key: task["taskInfo"]["name"]
        for dag in dags
        for key, task in dag["tasks"].items()
        if "executorLabel" in spec["components"][task["componentRef"]["name"]]
    }


def _step_paths(
    spec: dict[str, Any], component: dict[str, Any], path: str, root: str, ids: set[str], iteration: tuple[int, ...]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The path of each step's node, in loops of each iteration (argocompiler/dag.go, `iterationItemTask`)."""
    for key, task in component["dag"]["tasks"].items():
        child = spec["components"][task["componentRef"]["name"]]
        if "dag" not in child:
            yield f"{path}.{key}", iteration
        elif "parameterIterator" in task or "artifactIterator" in task:
            index = 0
            while _node_id(root, item := f"{path}.{key}.iteration-iterations({index}:{index})") in ids:
                yield from _step_paths(spec, child, f"{item}.iteration-item", root, ids, (*iteration, index))
                index += 1
        else:
            yield from _step_paths(spec, child, f"{path}.{key}", root, ids, iteration)


def _node_id(workflow: str, path: str) -> str:
    """Argo's id of a node: the 32-bit FNV-1a hash of its path."""
    value = 2166136261
    for byte in path.encode():
        value = (value ^ byte) * 16777619 % 2**32
    return f"{workflow}-{value}"


def _children(task: Any) -> list[str]:
    return [child.pod_name for child in task.child_tasks or []]


def _is_root(task: Any) -> bool:
    return any(re.fullmatch(rf"{re.escape(task.display_name)}-\d+", child) for child in _children(task))


def _artifact_uri(nodes: list[dict[str, Any]], step: str, artifact: str, iteration: tuple[int, ...]) -> str:
    """The URI in the input of a step's launcher, from the driver's output (backend/src/v2/driver/driver.go)."""
    found = False
    for node in nodes:
        inputs, outputs = (
            {item["name"]: item.get("value") for item in (node.get(side) or {}).get("parameters") or []}
            for side in ("inputs", "outputs")
        )
        name = (json.loads(inputs.get("task") or "{}").get("taskInfo") or {}).get("name")
        if name != step or iteration != tuple(int(index) for index in re.findall(r"\((\d+):", node["name"])):
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
