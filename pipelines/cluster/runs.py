"""The pipeline on a Kubeflow cluster: upload a version, submit a run and follow it, schedule runs.

Uploading is idempotent: a version is named by its package's content, and the same content is never stored twice.
"""

import contextlib
import hashlib
import io
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kfp
import kfp_server_api  # type: ignore[import-untyped]
import yaml  # type: ignore[import-untyped]

from components.runtime.errors import InputError
from pipelines.cluster.connection import Cluster, translate_api_errors

_ENDED = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")  # kfp's own wait does not know the last and never returns
_PAGE = 100


@dataclass(frozen=True)
class Uploaded:
    """A version of a pipeline on the cluster; `is_new` says whether it was stored now."""

    pipeline_id: str
    version_id: str
    version: str
    is_new: bool


@dataclass(frozen=True)
class Ended:
    """A run that ended: its id, its state (SUCCEEDED, FAILED, SKIPPED, CANCELED) and what the cluster says of it."""

    run_id: str
    state: str
    reason: str


def package_version(package: Path) -> str:
    """Name a package by its content: the same pipeline has the same name, however often it is compiled."""
    try:
        documents = list(yaml.safe_load_all(package.read_text()))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{package}: is no pipeline package: {error}; `make compile` writes one") from error
    # The text differs by comments and by the order of keys, which mean nothing.
    canonical = json.dumps(documents, sort_keys=True, separators=(",", ":"))
    return "sha256-" + hashlib.sha256(canonical.encode()).hexdigest()[:16]


def upload(cluster: Cluster, package: Path, description: str = "") -> Uploaded:
    """Upload a package as a new version of the pipeline that it names; nothing where that version is there.

    Raises:
        InputError: it is no package, or the cluster refuses or does not answer.
    """
    version, name = package_version(package), _pipeline_name(package)
    client = cluster.connect()
    with translate_api_errors(cluster.host), _without_links():
        pipeline_id = _pipeline_id(client, name, cluster.namespace)
        if pipeline_id is None:
            # Made first and empty: `upload_pipeline` would name the first version like the pipeline.
            body = kfp_server_api.V2beta1Pipeline(
                display_name=name, description=description, namespace=cluster.namespace or None
            )
            pipeline_id = client._pipelines_api.pipeline_service_create_pipeline(pipeline=body).pipeline_id
        present = _version_id(client, pipeline_id, version)
        if present is not None:
            return Uploaded(pipeline_id, present, version, is_new=False)
        stored = client.upload_pipeline_version(
            str(package), pipeline_version_name=version, pipeline_id=pipeline_id, description=description or None
        )
        return Uploaded(pipeline_id, stored.pipeline_version_id, version, is_new=True)


def submit(
    cluster: Cluster,
    uploaded: Uploaded,
    parameters: Mapping[str, Any],
    *,
    experiment: str,
    name: str,
    pipeline_root: str | None = None,
    service_account: str | None = None,
) -> str:
    """Start a run of an uploaded version; give its id.

    Raises:
        InputError: the cluster refuses or does not answer.
    """
    client = cluster.connect()
    with translate_api_errors(cluster.host), _without_links():
        run = client.run_pipeline(
            _experiment_id(client, experiment, cluster.namespace),
            name,
            params=dict(parameters),
            pipeline_id=uploaded.pipeline_id,
            version_id=uploaded.version_id,
            pipeline_root=pipeline_root,
            service_account=service_account,
        )
    return run.run_id


def schedule(
    cluster: Cluster,
    uploaded: Uploaded,
    parameters: Mapping[str, Any],
    *,
    experiment: str,
    name: str,
    cron: str,
    pipeline_root: str | None = None,
    service_account: str | None = None,
) -> str:
    """Run an uploaded version again and again; a schedule of this name is replaced. Give its id.

    Args:
        cluster: where.
        uploaded: the version.
        parameters: the pipeline's parameters.
        experiment: the runs' experiment.
        name: the schedule's name.
        cron: six fields, seconds first, such as `0 0 3 * * 1`: Mondays at three.
        pipeline_root: where the artifacts go; the cluster's default where None.
        service_account: the account of the runs' pods.

    Raises:
        InputError: that is no schedule, or the cluster refuses or does not answer.
    """
    if len(cron.split()) != 6:
        raise InputError(f"{cron!r}: is no schedule; expected six fields, seconds first, such as '0 0 3 * * 1'")
    client = cluster.connect()
    with translate_api_errors(cluster.host), _without_links():
        experiment_id = _experiment_id(client, experiment, cluster.namespace)
        before = _recurring_run_ids(client, experiment_id, name)
        made = client.create_recurring_run(
            experiment_id,
            name,
            cron_expression=cron,
            max_concurrency=1,
            no_catchup=True,  # a pause is not made up for: the newest data would be trained on several times
            params=dict(parameters),
            pipeline_id=uploaded.pipeline_id,
            version_id=uploaded.version_id,
            pipeline_root=pipeline_root,
            service_account=service_account,
        )
        # Only now: a refused schedule must leave the present one alone.
        for recurring_run_id in before:
            client.delete_recurring_run(recurring_run_id)
    return made.recurring_run_id


def follow(cluster: Cluster, run_id: str, timeout_s: float, poll_s: float = 10.0) -> Iterator[tuple[str, str] | Ended]:
    """Watch a run: yield (task, state) for each change, and at last how the run ended.

    Raises:
        InputError: it has not ended after `timeout_s`, or the cluster does not answer.
    """
    client = cluster.connect()
    shown: dict[str, str] = {}
    deadline = time.monotonic() + timeout_s
    while True:
        with translate_api_errors(cluster.host):
            run = client.get_run(run_id)
        for task in (run.run_details.task_details if run.run_details else None) or []:
            if task.state and shown.get(task.task_id) != task.state:
                shown[task.task_id] = task.state
                yield task.display_name, task.state
        if run.state in _ENDED:
            yield Ended(run_id, run.state, (run.error.message if run.error else "") or "")
            return
        if time.monotonic() > deadline:
            raise InputError(
                f"run {run_id} has not ended after {timeout_s:g} s; it goes on: {run_link(cluster, run_id)}"
            )
        time.sleep(poll_s)


def run_link(cluster: Cluster, run_id: str) -> str:
    """Address of a run in the Kubeflow UI."""
    return f"{(cluster.host or '').rstrip('/') or '/pipeline'}/#/runs/details/{run_id}"


def _pipeline_name(package: Path) -> str:
    for document in yaml.safe_load_all(package.read_text()):
        if isinstance(document, dict) and "pipelineInfo" in document:
            return document["pipelineInfo"]["name"]
    raise InputError(f"{package}: is no pipeline package; `make compile` writes one")


def _equals(key: str, value: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": key, "stringValue": value}]})


def _pipeline_id(client: kfp.Client, name: str, namespace: str) -> str | None:
    found = client.list_pipelines(namespace=namespace or None, page_size=_PAGE, filter=_equals("display_name", name))
    return found.pipelines[0].pipeline_id if found.pipelines else None


def _version_id(client: kfp.Client, pipeline_id: str, version: str) -> str | None:
    found = client.list_pipeline_versions(pipeline_id, page_size=_PAGE, filter=_equals("display_name", version))
    versions = found.pipeline_versions
    return versions[0].pipeline_version_id if versions else None


def _experiment_id(client: kfp.Client, name: str, namespace: str) -> str:
    return client.create_experiment(name, namespace=namespace or None).experiment_id


def _recurring_run_ids(client: kfp.Client, experiment_id: str, name: str) -> list[str]:
    found = client.list_recurring_runs(
        experiment_id=experiment_id, page_size=_PAGE, filter=_equals("display_name", name)
    )
    return [run.recurring_run_id for run in found.recurring_runs or []]


@contextlib.contextmanager
def _without_links() -> Iterator[None]:
    """Keep kfp from printing links of its own."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
