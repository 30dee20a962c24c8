"""A stand-in for Kubeflow's backend: executes the packages of the runs that `kfp_server` receives.

It follows kubeflow/pipelines 2.17.0 and argo-workflows 4.0.5, and is as strict as they are:

- inputs, conditions and outputs: `driver.py`;
- loops, names of nodes: backend/src/v2/driver/dag.go, compiler/argocompiler/{argo,dag,container}.go;
- cache keys: driver/cache.go, cacheutils/cache.go;
- pods: component/launcher_v2.go, with this Python in place of the image, and a folder in place of the object store;
- retries, nodes and their children: argo's workflow/controller/{operator,dag}.go, workflow_types.go;
- run details: backend/src/apiserver/server/api_converter.go, model/run.go.

Importers, exit handlers, artifact iterators and most of the platform spec are not modeled.
"""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Literal

from tests.pipelines.driver import (
    DriverError,
    Execution,
    Json,
    check_types,
    evaluate_condition,
    proto_numbers,
    provision_outputs,
    publish_outputs,
    read_items,
    resolve_inputs,
)

RetryPolicy = Literal["Always", "OnFailure", "OnError"]
End = tuple[str, list[Json]]  # phase of a node, and the nodes that precede those of the next task


@dataclass
class Backend:
    """A cluster's workflow controller, drivers and launchers, with its settings."""

    store: Path  # the object store: a folder of buckets
    retry_policy: RetryPolicy = "Always"  # of the controller's workflowDefaults or templateDefaults
    faults: dict[str, str] = field(default_factory=dict)  # by step: a shell command that runs in its place
    cache: dict[str, Execution] = field(default_factory=dict)
    workflows: dict[str, Json] = field(default_factory=dict)  # by run
    log: list[str] = field(default_factory=list)  # of drivers and failed pods
    processes: dict[str, list[subprocess.Popen[str]]] = field(default_factory=dict)  # by run

    def stop(self, run_id: str) -> None:
        """End the pods of a run, as deleting its workflow does."""
        del self.workflows[run_id]
        for process in self.processes.pop(run_id, []):
            _kill(process)

    def start(self, run: Json, spec: Json) -> None:
        """Execute a run of the API in the background; `spec` is that of its pipeline version in the API."""
        threading.Thread(target=_Workflow(self, run, spec).execute, daemon=True).start()


class StoredFiles(Mapping[str, bytes]):
    """The files of a backend's object store by source, bucket and key, as the UI's server reads them."""

    def __init__(self, store: Path) -> None:
        self._store = store

    def __getitem__(self, location: str) -> bytes:
        return (self._store / location.removeprefix("minio/")).read_bytes()

    def __contains__(self, location: object) -> bool:
        return (self._store / str(location).removeprefix("minio/")).is_file()

    def __iter__(self) -> Iterator[str]:
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError


class _Workflow:
    def __init__(self, backend: Backend, run: Json, spec: Json) -> None:
        self.backend, self.run = backend, run
        self.spec = spec.get("pipeline_spec", spec)
        kubernetes = spec.get("platform_spec", {}).get("platforms", {}).get("kubernetes", {})
        self.platform = kubernetes.get("deploymentSpec", {}).get("executors", {})
        self.pipeline = self.spec["pipelineInfo"]["name"]
        self.name = f"{self.pipeline}-{uuid.uuid4().hex[:5]}"
        config = run.get("runtime_config", {})
        root = config.get("pipeline_root") or "minio://mlpipeline/v2/artifacts"
        self.root = f"{root.rstrip('/')}/{self.pipeline}/{run['run_id']}"
        self.given = config.get("parameters", {})
        self.nodes: dict[str, Json] = {}
        backend.workflows[run["run_id"]] = {"metadata": {"name": self.name}, "status": {"nodes": self.nodes}}
        run["state"] = "PENDING"

    def execute(self) -> None:
        inputs = self.spec["root"].get("inputDefinitions", {}).get("parameters", {})
        defaults = {name: spec.get("defaultValue") for name, spec in inputs.items() if spec.get("isOptional")}
        workflow = self.add_node(self.name, None)
        phase = "Failed"
        try:
            driver = self.add_node("root-driver", workflow, phase="Succeeded")
            root = self.add_node("root", workflow, [driver])
            phase, _ = self.run_dag(Execution(self.spec["root"], defaults | self.given), root)
            self.end(phase, root)
        except BaseException as error:
            self.backend.log.append(f"a bug of the stand-in: {error!r}")
            raise
        finally:
            self.end(phase, workflow)
            self.run["state"] = phase.upper()

    def add_node(
        self, name: str, boundary: Json | None, parents: Sequence[Json] = (), phase: str = "Running", **io: Json
    ) -> Json:
        """Add a node to the DAG, task group or retry node `boundary`, below the nodes before it."""
        separator = "" if boundary and name.startswith("executor(") else "."
        prefix = boundary["name"].removesuffix("executor") if not separator else boundary["name"] if boundary else ""
        path = prefix + separator + name if boundary else name
        is_pod = name.endswith("-driver") or name.startswith("executor(")
        kind = "Skipped" if phase == "Skipped" else "Pod" if is_pod else "Retry" if name == "executor" else "DAG"
        node = {"id": _node_id(self.name, path), "name": path, "displayName": name, "type": kind, "phase": phase}
        node["children"] = []
        self.nodes[node["id"]] = node | {"startedAt": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")} | io
        for parent in parents or ([boundary] if boundary else []):
            parent["children"].append(node["id"])
        self.end(phase, self.nodes[node["id"]])
        return self.nodes[node["id"]]

    def end(self, phase: str, *nodes: Json) -> None:
        for node in nodes:
            node["phase"] = phase
        self.run["state"] = "RUNNING"

    def run_dag(self, dag: Execution, node: Json) -> End:
        """Run each task of a DAG once those it depends on have succeeded."""
        tasks = dag.component["dag"]["tasks"]
        after = {name: task.get("dependentTasks", []) for name, task in tasks.items()}
        with ThreadPoolExecutor(len(tasks)) as pool:
            ends: dict[str, Future[End]] = {}
            for name in TopologicalSorter(after).static_order():
                upstream = [ends[other] for other in after[name]]
                ends[name] = pool.submit(self.run_task, name, tasks[name], dag, node, upstream)
        results = {name: end.result() for name, end in ends.items()}
        targets = set(tasks) - {name for names in after.values() for name in names}
        failed = any(phase == "Failed" for phase, _ in results.values())
        return "Failed" if failed else "Succeeded", [leaf for name in targets for leaf in results[name][1]]

    def run_task(self, name: str, task: Json, dag: Execution, node: Json, upstream: Sequence[Future[End]]) -> End:
        results = [end.result() for end in upstream]
        parents = [leaf for _, leaves in results for leaf in leaves]
        if dag.failed:
            return "Omitted", []
        if any(phase != "Succeeded" for phase, _ in results):  # argocompiler/dag.go, `depends`
            return "Omitted", [self.add_node(f"{name}-driver", node, parents, "Omitted")]
        if "parameterIterator" in task:
            end = self.run_loop(name, task, dag, node, parents)
        else:
            end = self.run_component(name, name, task, dag, node, parents)
        dag.failed |= end[0] == "Failed"
        return end

    def run_loop(self, name: str, task: Json, dag: Execution, boundary: Json, parents: Sequence[Json]) -> End:
        node = self.add_node(name, boundary, parents)
        driver = self.add_node("iteration-driver", node)
        component = self.spec["components"][task["componentRef"]["name"]]
        iterator = task["parameterIterator"]
        try:
            loop = Execution(component, *resolve_inputs(task, component, dag, skipped=iterator["itemInput"]))
            items = read_items(iterator, loop)
        except DriverError as error:
            return self.fail_driver(error, driver, node)
        self.end("Succeeded", driver)
        group = self.add_node("iteration-iterations", node, [driver])
        dag.tasks[name], loop.iterations = loop, []
        holders = [Execution({}, loop.parameters | {iterator["itemInput"]: item}, loop.artifacts) for item in items]
        ends = []
        with ThreadPoolExecutor(task.get("iteratorPolicy", {}).get("parallelismLimit") or len(items) or 1) as pool:
            for index, holder in enumerate(holders):
                holder.parameters.pop(iterator["items"].get("inputParameter"), None)
                iteration = self.add_node(f"iteration-iterations({index}:{index})", node, [group], "Pending")
                ends.append(pool.submit(self.run_iteration, task, holder, iteration))
        loop.iterations = [iteration for holder in holders for iteration in holder.tasks.values()]
        phase = "Failed" if any(end.result()[0] == "Failed" for end in ends) else "Succeeded"
        self.end(phase, group, node)
        return phase, [leaf for end in ends for leaf in end.result()[1]] or [group]

    def run_iteration(self, task: Json, holder: Execution, node: Json) -> End:
        self.end("Running", node)
        end = self.run_component("iteration-item", None, task, holder, node, [])
        self.end(end[0], node)
        return end

    def run_component(
        self, node_name: str, name: str | None, task: Json, dag: Execution, boundary: Json, parents: Sequence[Json]
    ) -> End:
        """Run a container or a DAG: its driver, then what it stands for. Without a name, it is a loop's iteration."""
        component = self.spec["components"][task["componentRef"]["name"]]
        text = {"parameters": [{"name": "task", "value": json.dumps(task)}]}
        driver = self.add_node(f"{node_name}-driver", boundary, parents, inputs=text)
        try:
            if name is None:
                items = task["parameterIterator"]["items"].get("inputParameter")
                inputs = check_types(component, dag.parameters, skipped=items), dag.artifacts
            else:
                inputs = resolve_inputs(task, component, dag)
            triggered = evaluate_condition(task.get("triggerPolicy", {}).get("condition"), inputs[0])
        except DriverError as error:
            return self.fail_driver(error, driver)
        self.end("Succeeded", driver)
        if not triggered:
            return "Skipped", [self.add_node(node_name, boundary, [driver], "Skipped")]
        execution = Execution(component, *inputs)
        dag.tasks[name or "iteration-item"] = execution
        node = self.add_node(node_name, boundary, [driver])
        if "dag" in component:
            phase, last = self.run_dag(execution, node)
        else:
            phase, last = self.run_container(node_name, task, execution, driver, node)
        self.end(phase, node)
        return phase, last

    def fail_driver(self, error: DriverError, driver: Json, *nodes: Json) -> End:
        self.backend.log.append(f"{driver['displayName']}: {error}")
        self.end("Failed", driver, *nodes)
        return "Failed", [driver]

    def run_container(self, name: str, task: Json, execution: Execution, driver: Json, node: Json) -> End:
        label = execution.component["executorLabel"]
        container = self.spec["deploymentSpec"]["executors"][label]["container"]
        key = self.cache_key(container, execution) if task.get("cachingOptions", {}).get("enableCache") else None
        if cached := self.backend.cache.get(key or ""):
            execution.output_parameters, execution.output_artifacts = cached.output_parameters, cached.output_artifacts
            return "Succeeded", [self.add_node("executor", node, phase="Skipped")]  # when: cached-decision != true
        uri = f"{self.root}/{name}/{uuid.uuid4()}"
        outputs = provision_outputs(execution.component, uri)
        artifacts = {name: {"artifacts": items} for name, items in execution.artifacts.items()}
        inputs = {"parameterValues": execution.parameters, "artifacts": artifacts}
        text = json.dumps(proto_numbers({"inputs": inputs, "outputs": outputs}))
        words = [*container["command"], *container.get("args", [])]
        command = [text if word == "{{$}}" else word for word in words]
        if name in self.backend.faults:
            command = ["sh", "-c", self.backend.faults[name]]
        pod = _Pod(self.backend, self.run["run_id"], uri, text, command, execution)
        pod.limit_s = float(self.platform.get(label, {}).get("activeDeadlineSeconds") or "inf")
        launcher = ["/kfp-launcher/launch", "--executor_input", text, "--", *words]
        patch = json.dumps({"containers": [{"name": "main", "command": launcher}]})
        driver["outputs"] = {"parameters": [{"name": "pod-spec-patch", "value": patch}]}
        executor = self.add_node("executor", node)
        if policy := task.get("retryPolicy"):
            last = self.run_with_retries(policy, pod, executor)
        else:
            executor["type"] = "Pod"
            last = executor
            self.end(pod.run({}), executor)
        self.end(last["phase"], executor)
        if key and last["phase"] == "Succeeded":
            self.backend.cache[key] = execution
        return last["phase"], [last]

    def run_with_retries(self, policy: Json, pod: "_Pod", retry_node: Json) -> Json:
        """Run attempts as Argo's processNodeRetries decides; its waits are counted, but not slept."""
        window = _seconds(policy.get("backoffMaxDuration"))  # from the first attempt's start; 0 if absent: no retry
        wait, factor = _seconds(policy.get("backoffDuration")), policy.get("backoffFactor") or 1
        start, waited = time.monotonic(), 0.0
        for attempt in itertools.count():
            node = self.add_node(f"executor({attempt})", retry_node)
            pod.window_s = window - waited - (time.monotonic() - start)
            self.end(pod.run({"KFP_RETRY_INDEX": str(attempt)}), node)
            waited += wait * factor**attempt
            in_time = waited + time.monotonic() - start < window
            # An exit status other than 0 is Argo's phase Failed; Error is for pods that were deleted or evicted.
            retried = self.backend.retry_policy in ("Always", "OnFailure") and in_time
            if node["phase"] == "Succeeded" or not retried or attempt >= int(policy["maxRetryCount"]):
                return node
        raise AssertionError

    def cache_key(self, container: Json, execution: Execution) -> str:
        """Image, command, parameters and names of artifacts; no content of an artifact."""
        inputs = {name: [item["name"] for item in items] for name, items in execution.artifacts.items()}
        outputs = execution.component.get("outputDefinitions", {})
        command = [container["image"], container["command"], container.get("args")]
        return json.dumps([self.pipeline, command, execution.parameters, inputs, outputs], sort_keys=True)


@dataclass
class _Pod:
    """A container that the launcher starts: in an empty /tmp, with the object store's folder for minio://."""

    backend: Backend
    run_id: str
    uri: str
    executor_input: str
    command: list[str]
    execution: Execution
    limit_s: float = float("inf")
    window_s: float = float("inf")

    def run(self, environment: Json) -> str:
        """Run the command; publish its outputs if it succeeds."""
        local = Path(self._local(self.uri))
        shutil.rmtree(local, ignore_errors=True)  # a new pod does not see what a failed one wrote
        scratch = local / "tmp"
        (scratch / "outputs").mkdir(parents=True)
        limit_s = min(self.limit_s, self.window_s)
        log = self._run_process(scratch, environment, None if limit_s == float("inf") else max(limit_s, 0))
        if not log:
            try:
                publish_outputs(self.execution, json.loads(self._local(self.executor_input))["outputs"], self.uri)
            except OSError as error:
                log = f"failed to read output parameter: {error}"
        if log:
            self.backend.log.append(f"{self.uri}: {log}")
            shutil.rmtree(local, ignore_errors=True)
        return "Failed" if log else "Succeeded"

    def _run_process(self, scratch: Path, environment: Json, limit_s: float | None) -> str:
        """Return why the process failed, or an empty text."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, **environment, "TMPDIR": str(scratch), "PATH": path}
        command = [self._local(word) for word in self.command]
        if self.run_id not in self.backend.workflows:
            return "the workflow is deleted"
        try:
            process = subprocess.Popen(
                command, cwd=scratch, env=environment, stdout=-1, stderr=-2, text=True, start_new_session=True
            )
            self.backend.processes.setdefault(self.run_id, []).append(process)
            output, _ = process.communicate(timeout=limit_s)
        except OSError as error:  # such as an argument over 128 KiB
            return str(error)
        except subprocess.TimeoutExpired as error:
            _kill(process)
            return str(error)
        return output or f"exit status {process.returncode}" if process.returncode else ""

    def _local(self, text: str) -> str:
        """The launcher mounts buckets at /minio; here they are in a folder."""
        return text.replace("minio://", f"{self.backend.store}/")


def _kill(process: "subprocess.Popen[str]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _node_id(workflow: str, path: str) -> str:
    """Argo's id of a node, workflow_types.go `NodeID`: the workflow, and the 32-bit FNV-1a hash of the path."""
    value = 2166136261
    for byte in path.encode():
        value = (value ^ byte) * 16777619 % 2**32
    return workflow if path == workflow else f"{workflow}-{value}"


def _seconds(duration: str | None) -> float:
    return float((duration or "0s").removesuffix("s"))
