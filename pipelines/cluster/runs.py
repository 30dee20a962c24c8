"""Pipelines on a Kubeflow cluster: upload versions, submit and follow runs, schedule them."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kfp
import kfp_server_api  # type: ignore[import-untyped]
import yaml  # type: ignore[import-untyped]

from components.runtime.errors import InputError
from pipelines.cluster.connection import Cluster, api_call

_END_STATES = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")  # kfp's own wait never returns on CANCELED
_PAGE = 100


@dataclass(frozen=True)
class UploadedVersion:
    """A version of a pipeline on the cluster; `is_new` is False if it existed before the upload."""

    pipeline_id: str
    version_id: str
    version: str
    is_new: bool

    @property
    def outcome(self) -> str:
        """The effect of the upload, as a clause."""
        return "uploaded" if self.is_new else "already uploaded"


@dataclass(frozen=True)
class RunEnd:
    """End of a run: its id, its state (SUCCEEDED, FAILED, SKIPPED or CANCELED) and the cluster's reason."""

    run_id: str
    state: str
    reason: str


def package_version(package: Path) -> str:
    """Name a package by its content: the same pipeline gets the same version name each time it is compiled."""
    # Comments and the order of keys may differ between two compilations.
    canonical = json.dumps(_read_package(package), sort_keys=True, separators=(",", ":"))
    return "sha256-" + hashlib.sha256(canonical.encode()).hexdigest()[:16]


def upload(cluster: Cluster, package: Path) -> UploadedVersion:
    """Upload a package as a version of the pipeline it names, unless that version exists.

    Raises:
        InputError: the file is not a pipeline package, or the API is unreachable or rejects it.
    """
    version, name = package_version(package), _pipeline_name(package)
    client = cluster.connect()
    with api_call(cluster.host):
        pipeline_id = _pipeline_id(client, name, cluster.namespace)
        if pipeline_id is None:
            # Created empty: `upload_pipeline` names the first version after the pipeline.
            body = kfp_server_api.V2beta1Pipeline(display_name=name, namespace=cluster.namespace)
            pipeline_id = client._pipelines_api.pipeline_service_create_pipeline(pipeline=body).pipeline_id
        existing_id = _version_id(client, pipeline_id, version)
        if existing_id is not None:
            return UploadedVersion(pipeline_id, existing_id, version, is_new=False)
        stored = client.upload_pipeline_version(str(package), pipeline_version_name=version, pipeline_id=pipeline_id)
        return UploadedVersion(pipeline_id, stored.pipeline_version_id, version, is_new=True)


@dataclass(frozen=True)
class RunSettings:
    """Settings of a run or a schedule; None for the cluster's default pipeline root and service account."""

    name: str
    experiment: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    pipeline_root: str | None = None
    service_account: str | None = None


def submit(cluster: Cluster, uploaded: UploadedVersion, settings: RunSettings) -> str:
    """Start a run of an uploaded version and return its id; raise `InputError` if the API rejects it."""
    client = cluster.connect()
    with api_call(cluster.host):
        experiment_id = client.create_experiment(settings.experiment, namespace=cluster.namespace).experiment_id
        return client.run_pipeline(experiment_id, settings.name, **_run_arguments(uploaded, settings)).run_id


def schedule(cluster: Cluster, uploaded: UploadedVersion, settings: RunSettings, cron: str) -> str:
    """Run an uploaded version on a schedule, in place of an earlier schedule of that name; return its id.

    Args:
        cluster: address and credentials of the API.
        uploaded: the version.
        settings: settings of the runs.
        cron: six fields, seconds first, such as `0 0 3 * * 1` for Mondays at three.

    Raises:
        InputError: the cron expression is invalid, or the API is unreachable or rejects the schedule.
    """
    if len(cron.split()) != 6:
        raise InputError(f"--cron {cron!r}: expected six fields, seconds first, such as '0 0 3 * * 1'")
    client = cluster.connect()
    with api_call(cluster.host):
        experiment_id = client.create_experiment(settings.experiment, namespace=cluster.namespace).experiment_id
        predecessors = _recurring_run_ids(client, experiment_id, settings.name)
        response = client.create_recurring_run(
            experiment_id,
            settings.name,
            cron_expression=cron,
            max_concurrency=1,
            no_catchup=True,  # catching up after a pause would train on the newest data several times
            **_run_arguments(uploaded, settings),
        )
        # Deleted last: a rejected schedule must leave the present one in place.
        for recurring_run_id in predecessors:
            client.delete_recurring_run(recurring_run_id)
    return response.recurring_run_id


def _run_arguments(uploaded: UploadedVersion, settings: RunSettings) -> dict[str, Any]:
    return {
        "params": dict(settings.parameters),
        "pipeline_id": uploaded.pipeline_id,
        "version_id": uploaded.version_id,
        "pipeline_root": settings.pipeline_root,
        "service_account": settings.service_account,
    }


def follow(
    cluster: Cluster, run_id: str, *, timeout_s: float, poll_s: float = 10.0
) -> Iterator[tuple[str, str] | RunEnd]:
    """Watch a run: yield (task, state) for each change, then the `RunEnd`.

    Raises:
        InputError: the run takes longer than `timeout_s`, or the API is unreachable.
    """
    client = cluster.connect()
    states: dict[str, str] = {}
    deadline = time.monotonic() + timeout_s
    while True:
        with api_call(cluster.host):
            run = client.get_run(run_id)
        for task in (run.run_details.task_details if run.run_details else None) or []:
            if task.state and states.get(task.task_id) != task.state:
                states[task.task_id] = task.state
                yield task.display_name, task.state
        if run.state in _END_STATES:
            yield RunEnd(run_id, run.state, (run.error.message if run.error else "") or "")
            return
        if time.monotonic() > deadline:
            link = run_link(cluster, run_id)
            raise InputError(f"run {run_id} is still running after {timeout_s:g} s; follow it at {link}")
        time.sleep(poll_s)


def run_link(cluster: Cluster, run_id: str) -> str:
    """Address of a run in the Kubeflow UI."""
    return f"{(cluster.host or '').rstrip('/') or '/pipeline'}/#/runs/details/{run_id}"


def _read_package(package: Path) -> list[Any]:
    try:
        return list(yaml.safe_load_all(package.read_text()))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{package}: not a pipeline package: {error}; write one with `make compile`") from error


def _pipeline_name(package: Path) -> str:
    for document in _read_package(package):
        if isinstance(document, dict) and "pipelineInfo" in document:
            return document["pipelineInfo"]["name"]
    raise InputError(f"{package}: not a pipeline package; write one with `make compile`")


def _name_filter(name: str) -> str:
    """A filter of the API for objects with a display name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def _pipeline_id(client: kfp.Client, name: str, namespace: str | None) -> str | None:
    pipelines = client.list_pipelines(namespace=namespace, page_size=_PAGE, filter=_name_filter(name)).pipelines
    return pipelines[0].pipeline_id if pipelines else None


def _version_id(client: kfp.Client, pipeline_id: str, version: str) -> str | None:
    versions = client.list_pipeline_versions(
        pipeline_id, page_size=_PAGE, filter=_name_filter(version)
    ).pipeline_versions
    return versions[0].pipeline_version_id if versions else None


def _recurring_run_ids(client: kfp.Client, experiment_id: str, name: str) -> list[str]:
    page = client.list_recurring_runs(experiment_id=experiment_id, page_size=_PAGE, filter=_name_filter(name))
    return [run.recurring_run_id for run in page.recurring_runs or []]
