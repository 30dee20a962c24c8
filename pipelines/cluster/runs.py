"""Pipelines on a Kubeflow cluster: upload versions, submit runs, schedule and delete them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kfp
import kfp_server_api  # type: ignore[import-untyped]
import yaml  # type: ignore[import-untyped]

from components.runtime.errors import InputError
from pipelines.cluster.connection import Cluster, api_call

_PAGE = 100
# All parameters are one argument of the run's first driver (argocompiler/dag.go, `--runtime_config`), and Linux limits
# an argument to 32 pages with its final NUL (MAX_ARG_STRLEN). The API's own MAX_PARAMETER_BYTES is for v1beta1 only.
_MAX_PARAMETERS_BYTES = 131_071


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
    version, name = package_version(package), pipeline_name(package)
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


@dataclass(frozen=True)
class Schedule:
    """A schedule: its id, the number of schedules it replaced, and other experiments with one of the same name."""

    schedule_id: str
    replaced: int
    other_experiments: tuple[str, ...]


def submit(cluster: Cluster, uploaded: UploadedVersion, settings: RunSettings) -> str:
    """Start a run of an uploaded version and return its id.

    Raises:
        InputError: the parameters are too long, or the API is unreachable or rejects the run.
    """
    arguments = _run_arguments(uploaded, settings)
    client = cluster.connect()
    with api_call(cluster.host):
        return client.run_pipeline(_experiment_id(cluster, settings.experiment), settings.name, **arguments).run_id


def schedule(cluster: Cluster, uploaded: UploadedVersion, settings: RunSettings, cron: str) -> Schedule:
    """Run an uploaded version on a schedule, in place of those with its name in its experiment.

    Args:
        cluster: address and credentials of the API.
        uploaded: the version.
        settings: settings of the runs.
        cron: six fields, seconds first, such as `0 0 3 * * 1` for Mondays at three.

    Raises:
        InputError: the cron expression is invalid, the parameters are too long, or the API is unreachable or rejects
            the schedule.
    """
    if len(cron.split()) != 6:
        raise InputError(f"--cron {cron!r}: expected six fields, seconds first, such as '0 0 3 * * 1'")
    arguments = _run_arguments(uploaded, settings)
    client = cluster.connect()
    with api_call(cluster.host):
        experiment_id = _experiment_id(cluster, settings.experiment)
        namesakes = _schedules(client, settings.name, cluster.namespace)
        created = client.create_recurring_run(
            experiment_id,
            settings.name,
            cron_expression=cron,
            max_concurrency=1,
            no_catchup=True,  # catching up after a pause would train on the newest data several times
            **arguments,
        )
        # Deleted last: a rejected schedule must leave the present one in place.
        predecessors = [run.recurring_run_id for run in namesakes if run.experiment_id == experiment_id]
        for recurring_run_id in predecessors:
            client.delete_recurring_run(recurring_run_id)
        others = {run.experiment_id for run in namesakes} - {experiment_id}
        names = sorted(client.get_experiment(experiment_id=other).display_name for other in others)
    return Schedule(created.recurring_run_id, len(predecessors), tuple(names))


def run_link(cluster: Cluster, run_id: str) -> str:
    """Address of a run in the Kubeflow UI; without its host if that is not the host of the API."""
    client, page = cluster.connect(), f"#/runs/details/{run_id}"
    return f"{client.address}/{page}" if client.has_ui else f"{page} in the Kubeflow UI"


def delete_run(cluster: Cluster, run_id: str) -> None:
    """Delete a run; its artifacts stay in the pipeline root."""
    with api_call(cluster.host):
        cluster.connect().delete_run(run_id)


def delete_version(cluster: Cluster, uploaded: UploadedVersion) -> None:
    """Delete a version of a pipeline, and the pipeline with its last version."""
    client = cluster.connect()
    with api_call(cluster.host):
        client.delete_pipeline_version(uploaded.pipeline_id, uploaded.version_id)
        if not client.list_pipeline_versions(uploaded.pipeline_id, page_size=1).pipeline_versions:
            client.delete_pipeline(uploaded.pipeline_id)


def delete_experiment(cluster: Cluster, name: str) -> None:
    """Delete an experiment by its name, if it exists; its runs must be deleted before."""
    client = cluster.connect()
    with api_call(cluster.host):
        page = client.list_experiments(namespace=cluster.namespace, page_size=_PAGE, filter=_name_filter(name))
        for experiment in page.experiments or []:
            client.delete_experiment(experiment.experiment_id)


def _experiment_id(cluster: Cluster, name: str) -> str:
    client = cluster.connect()
    if client.is_multi_user and cluster.namespace is None:
        raise InputError(f"{client.address}: a multi-user Kubeflow; expected --namespace, that of your profile")
    return client.create_experiment(name, namespace=cluster.namespace).experiment_id


def _run_arguments(uploaded: UploadedVersion, settings: RunSettings) -> dict[str, Any]:
    parameters = dict(settings.parameters)
    if (size := _json_bytes({"parameterValues": parameters})) > _MAX_PARAMETERS_BYTES:
        longest = max(parameters, key=lambda name: _json_bytes(parameters[name]))
        raise InputError(
            f"parameter {longest}: {_json_bytes(parameters[longest]):,} bytes, and all parameters together {size:,}; "
            f"expected at most {_MAX_PARAMETERS_BYTES:,}; shorten it"
        )
    return {
        "params": parameters,
        "pipeline_id": uploaded.pipeline_id,
        "version_id": uploaded.version_id,
        "pipeline_root": settings.pipeline_root,
        "service_account": settings.service_account,
    }


def _json_bytes(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def _read_package(package: Path) -> list[Any]:
    try:
        return list(yaml.safe_load_all(package.read_text()))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{package}: not a pipeline package: {error}; write one with `make compile`") from error


def pipeline_name(package: Path) -> str:
    """Read the name of a package's pipeline; raise `InputError` if it is not a package."""
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


def _schedules(client: kfp.Client, name: str, namespace: str | None) -> list[Any]:
    """All schedules with this name, in every experiment."""
    page = client.list_recurring_runs(namespace=namespace, page_size=_PAGE, filter=_name_filter(name))
    return page.recurring_runs or []
