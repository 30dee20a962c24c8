"""The steps of a run, as the Kubeflow Pipelines API lists them, and their artifacts."""

from typing import NamedTuple

import pytest
from kfp import compiler, dsl

from components.runtime.errors import InputError
from pipelines.cluster.connection import Cluster
from pipelines.cluster.progress import RunEnd, StepState, follow, read_artifact
from pipelines.cluster.runs import RunSettings, submit, upload
from tests.pipelines.argo_workflow import ROOT, Workflow, driver_fields, node_id
from tests.pipelines.kfp_server import KfpServer, run_kfp_server
from tests.pipelines.test_cluster import without_machine_settings  # noqa: F401

TOP = f"{ROOT}.root"


class Run(NamedTuple):
    """A run of the pipeline below on the server."""

    api: KfpServer
    cluster: Cluster
    run_id: str
    workflow: Workflow

    def show(self, state):
        """Add what the API returns next."""
        self.api.states.append(self.workflow.run(state))

    def follow(self):
        """All events."""
        return list(follow(self.cluster, self.run_id, timeout_s=30, poll_s=0))

    def steps(self):
        """The steps at the end of the run."""
        self.show("SUCCEEDED")
        return self.follow()[-1].steps


@pytest.fixture
def package(tmp_path):
    @dsl.component(base_image="python", install_kfp_package=False)
    def count(cases: int) -> int:
        return cases

    @dsl.pipeline(name="counting")
    def counting(cases: int = 3):
        count(cases=cases).set_display_name("Assign folds").set_retry(1)
        with dsl.ParallelFor([1, 2]) as fold:
            count(cases=fold).set_display_name("Train U-Net").set_retry(1)

    compiler.Compiler().compile(counting, str(tmp_path / "counting.yaml"))
    return tmp_path / "counting.yaml"


def start(api, package, workflow=None, **settings):
    cluster = Cluster(api.url, **settings)
    run_id = submit(cluster, upload(cluster, package), RunSettings("a run", "lung"))
    return Run(api, cluster, run_id, workflow or Workflow())


@pytest.fixture(params=[{}, {"wrapped": True}, {"compressed": True}], ids=["plain", "wrapped", "compressed"])
def run(request, api, package):
    return start(api, package, Workflow(**request.param))


def test_a_node_id_is_the_one_of_argo():
    # Nodes of workflow/controller/operator_test.go in argo-workflows.
    assert node_id("wf-retry-pol[0].run-dag.A(0)").endswith("-3148069997")
    assert node_id("wf-retry-pol[0]").endswith("-3488382045")


def test_following_a_run_yields_each_change_of_a_step_and_the_end(run):
    run.show("PENDING")
    run.workflow.step(f"{TOP}.count", "Running", "Running")
    run.show("RUNNING")
    run.show("RUNNING")
    run.workflow.step(f"{TOP}.count", "Failed", "Failed", "Failed")
    run.show("FAILED")
    assert run.follow() == [
        StepState("Assign folds", "RUNNING", attempts=1),
        StepState("Assign folds", "FAILED", attempts=2),
        RunEnd(run.run_id, "FAILED", "", (StepState("Assign folds", "FAILED", attempts=2),)),
    ]


def test_the_steps_of_a_loop_have_the_number_of_their_iteration(run):
    first, second = run.workflow.loop(f"{TOP}.for-loop-2", "Running", "Running")
    run.workflow.step(f"{second}.count-2", "Succeeded", "Succeeded")
    run.workflow.step(f"{first}.count-2", "Failed", "Failed", "Failed")
    assert sorted(run.steps(), key=lambda step: step.iteration) == [
        StepState("Train U-Net", "FAILED", (0,), attempts=2),
        StepState("Train U-Net", "SUCCEEDED", (1,), attempts=1),
    ]


def test_a_step_whose_pod_is_skipped_took_the_outputs_of_an_earlier_run(run):
    run.workflow.step(f"{TOP}.count", "Succeeded")
    (item,) = run.workflow.loop(f"{TOP}.for-loop-2", "Succeeded")
    run.workflow.step(f"{item}.count-2", "Succeeded", "Failed", "Succeeded")
    assert [(step.name, step.cached) for step in run.steps()] == [("Assign folds", True), ("Train U-Net", False)]


def test_a_step_without_retries_has_one_attempt(run):
    run.workflow.step(f"{TOP}.count", "Succeeded")
    run.workflow.add(f"{TOP}.count.executor", "Succeeded", type="Pod")
    assert run.steps() == (StepState("Assign folds", "SUCCEEDED", attempts=1),)


def test_a_failed_driver_is_a_failed_step(run):
    # The step's own node is then Omitted, which the API lists as unspecified.
    run.workflow.attempts(f"{TOP}.count-driver", "Failed")
    run.workflow.add(f"{TOP}.count", "Omitted", parent=f"{TOP}.count-driver")
    run.show("FAILED")
    failed = StepState("Assign folds (driver)", "FAILED")
    assert run.follow() == [failed, RunEnd(run.run_id, "FAILED", "", (failed,))]


@pytest.mark.parametrize(
    ("driver", "label"),
    [
        ("root-driver", "root (driver)"),
        ("root.for-loop-2.iteration-driver", "for-loop-2 (driver)"),
        ("root.for-loop-2.iteration-iterations(1:1).iteration-item-driver", "for-loop-2 (driver) [1]"),
    ],
)
def test_a_failed_driver_of_several_steps_is_named_too(run, driver, label):
    run.workflow.attempts(f"{ROOT}.{driver}", "Failed")
    assert [(step.label, step.state) for step in run.steps()] == [(label, "FAILED")]


def test_the_state_of_a_step_is_that_of_the_last_attempt_of_what_contains_it(api, package):
    # A retry strategy for all templates retries the whole pipeline too, once a step's own attempts are lost.
    run = start(api, package)
    run.workflow.step(f"{ROOT}(0).root(0).count", "Error", "Error", "Error")
    run.workflow.step(f"{ROOT}(0).root(1).count", "Succeeded", "Succeeded")
    assert run.steps() == (StepState("Assign folds", "SUCCEEDED", attempts=3),)


def test_a_canceled_run_has_an_end(run):
    run.api.states = [{"state": "CANCELED"}]
    assert run.follow() == [RunEnd(run.run_id, "CANCELED", "")]


@pytest.mark.parametrize(("failures", "ends"), [(5, True), (6, False)])
def test_an_api_that_restarts_does_not_end_the_wait(run, failures, ends):
    run.show("SUCCEEDED")
    run.api.unavailable = failures
    if ends:
        assert run.follow() == [RunEnd(run.run_id, "SUCCEEDED", "")]
        return
    with pytest.raises(InputError, match=f"503.*run {run.run_id} continues on the cluster: {run.api.url}"):
        run.follow()


def test_a_run_that_exceeds_the_timeout_is_an_error_with_its_link(run):
    run.api.states = [{"state": "RUNNING"}]
    with pytest.raises(InputError, match=f"{run.run_id}.*0 s.*{run.api.url}/#/runs/details/{run.run_id}"):
        list(follow(run.cluster, run.run_id, timeout_s=0, poll_s=0))


@pytest.fixture
def gateway_run(package, tmp_path):
    (tmp_path / "token").write_text("first")
    with run_kfp_server(kind="kubeflow", namespace="radiology") as api:
        api.gateway.tokens.add("first")
        yield start(api, package, namespace="radiology", token_file=tmp_path / "token")


def test_a_token_that_expires_during_the_run_is_an_error_with_the_link(gateway_run):
    gateway_run.show("RUNNING")
    events = follow(gateway_run.cluster, gateway_run.run_id, timeout_s=30, poll_s=0)
    gateway_run.workflow.step(f"{TOP}.count", "Running", "Running")
    gateway_run.show("RUNNING")
    next(events)
    gateway_run.api.gateway.tokens.clear()
    link = f"{gateway_run.api.url}/pipeline/#/runs/details/{gateway_run.run_id}"
    with pytest.raises(InputError, match=rf"401: Jwt is expired; .*--token-file.*continues on the cluster: {link}"):
        next(events)


def test_a_token_that_is_renewed_in_its_file_lets_the_run_be_followed(gateway_run, tmp_path):
    gateway_run.show("RUNNING")
    gateway_run.show("SUCCEEDED")
    (tmp_path / "token").write_text("second")
    gateway_run.api.gateway.tokens = {"second"}
    assert gateway_run.follow() == [RunEnd(gateway_run.run_id, "SUCCEEDED", "")]


@pytest.mark.parametrize("scheme", ["minio", "s3", "gs"])
def test_an_artifact_is_read_at_the_uri_that_the_driver_chose(run, scheme):
    uris = {"report": f"{scheme}://bucket/root/counting/1/count/5f1c/report"}
    run.workflow.step(f"{TOP}.count", "Succeeded", "Succeeded", **driver_fields("Assign folds", uris))
    run.api.workflow = run.workflow.manifest()
    run.api.artifacts[f"{scheme.replace('gs', 'gcs')}/bucket/root/counting/1/count/5f1c/report"] = b"<html>"
    assert read_artifact(run.cluster, run.run_id, "Assign folds", "report") == b"<html>"


def test_an_artifact_of_a_loop_is_that_of_the_iteration(run):
    for index, item in enumerate(run.workflow.loop(f"{TOP}.for-loop-2", "Succeeded", "Succeeded")):
        fields = driver_fields("Train U-Net", {"report": f"minio://bucket/{index}"})
        run.workflow.step(f"{item}.count-2", "Succeeded", "Succeeded", **fields)
        run.api.artifacts[f"minio/bucket/{index}"] = b"%d" % index
    run.api.workflow = run.workflow.manifest()
    assert read_artifact(run.cluster, run.run_id, "Train U-Net", "report", (1,)) == b"1"


def test_an_artifact_of_a_namespace_is_read_through_the_gateway(gateway_run):
    fields = driver_fields("Assign folds", {"report": "minio://bucket/report"})
    gateway_run.workflow.step(f"{TOP}.count", "Succeeded", "Succeeded", **fields)
    gateway_run.api.workflow = gateway_run.workflow.manifest()
    gateway_run.api.artifacts["minio/bucket/report"] = b"<html>"
    assert read_artifact(gateway_run.cluster, gateway_run.run_id, "Assign folds", "report") == b"<html>"


@pytest.mark.parametrize(
    ("step", "artifact", "reason"),
    [
        ("Assign folds", "other", "expected one of report"),
        ("Assign folds", "report", "404: No objects found"),
        ("Put together", "report", "no such step"),
    ],
)
def test_an_artifact_that_is_not_there_is_an_error(run, step, artifact, reason):
    fields = driver_fields("Assign folds", {"report": "minio://bucket/report"})
    run.workflow.step(f"{TOP}.count", "Succeeded", "Succeeded", **fields)
    run.api.workflow = run.workflow.manifest()
    with pytest.raises(InputError, match=reason):
        read_artifact(run.cluster, run.run_id, step, artifact)


def test_an_artifact_of_a_cached_step_is_an_error(run):
    run.workflow.step(f"{TOP}.count", "Succeeded", **driver_fields("Assign folds", {}))
    run.api.workflow = run.workflow.manifest()
    with pytest.raises(InputError, match="earlier run"):
        read_artifact(run.cluster, run.run_id, "Assign folds", "report")


def test_artifacts_without_the_ui_are_an_error(package):
    with run_kfp_server(kind="api") as api:
        run = start(api, package)
        with pytest.raises(InputError, match="expected the address of ml-pipeline-ui"):
            read_artifact(run.cluster, run.run_id, "Assign folds", "report")
