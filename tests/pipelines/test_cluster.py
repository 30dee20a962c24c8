"""Upload, submit, follow and schedule against a real HTTP server of the Kubeflow Pipelines API."""

import pytest
from kfp import compiler, dsl

from components.runtime.errors import InputError
from pipelines.cluster.connection import Cluster
from pipelines.cluster.runs import RunEnd, RunSettings, follow, package_version, run_link, schedule, submit, upload
from tests.pipelines.kfp_server import run_kfp_server


@dsl.component(base_image="python", install_kfp_package=False)
def count(cases: int) -> int:
    return cases


@pytest.fixture(autouse=True)
def without_machine_settings(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT", "KF_PIPELINES_IAP_OAUTH2_CLIENT_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cluster(api):
    return Cluster(api.url)


@pytest.fixture
def uploaded(cluster, package):
    return upload(cluster, package)


@pytest.fixture
def run_id(cluster, uploaded):
    return submit(cluster, uploaded, RunSettings("a run", "lung"))


@pytest.fixture
def package(tmp_path):
    return compile_counting(tmp_path / "counting.yaml", 5)


def compile_counting(path, default, name="counting"):
    @dsl.pipeline(name=name)
    def counting(cases: int = default):
        count(cases=cases)

    compiler.Compiler().compile(counting, str(path))
    return path


def test_compiling_a_pipeline_twice_gives_the_same_version_name(tmp_path):
    first, again = (package_version(compile_counting(tmp_path / f"{name}.yaml", 5)) for name in ("first", "again"))
    other = package_version(compile_counting(tmp_path / "other.yaml", 6))
    assert first == again != other


def test_two_uploads_store_one_version(api, cluster, package):
    first, again = (upload(cluster, package) for _ in range(2))
    assert (first.is_new, again.is_new) == (True, False)
    assert (first.pipeline_id, first.version_id) == (again.pipeline_id, again.version_id)
    assert [version["display_name"] for version in api.versions.values()] == [package_version(package)]


def test_a_changed_pipeline_becomes_a_second_version_of_the_same_pipeline(api, cluster, tmp_path):
    first = upload(cluster, compile_counting(tmp_path / "first.yaml", 5))
    second = upload(cluster, compile_counting(tmp_path / "second.yaml", 6))
    assert second.is_new
    assert second.pipeline_id == first.pipeline_id
    assert len(api.pipelines) == 1
    assert len(api.versions) == 2


@pytest.mark.parametrize("lost", [1, 2])
def test_repeating_an_upload_after_a_lost_response_stores_one_version(api, cluster, package, lost):
    api.lost_writes = lost
    for _ in range(lost):
        with pytest.raises(InputError, match="503"):
            upload(cluster, package)
    uploaded = upload(cluster, package)
    assert list(api.pipelines) == [uploaded.pipeline_id]
    assert list(api.versions) == [uploaded.version_id]


def test_a_run_has_the_uploaded_version_and_the_parameters(api, cluster, uploaded):
    run_id = submit(cluster, uploaded, RunSettings("a run", "lung", {"cases": 7}, pipeline_root="gs://bucket/root"))
    run = api.runs[run_id]
    assert run["pipeline_version_reference"] == {
        "pipeline_id": uploaded.pipeline_id,
        "pipeline_version_id": uploaded.version_id,
    }
    assert run["runtime_config"] == {"parameters": {"cases": 7}, "pipeline_root": "gs://bucket/root"}
    assert api.experiments[run["experiment_id"]]["display_name"] == "lung"


def test_runs_of_one_experiment_share_it(api, cluster, uploaded):
    for name in ("first", "second"):
        submit(cluster, uploaded, RunSettings(name, "lung"))
    assert len(api.experiments) == 1
    assert len(api.runs) == 2


def test_the_namespace_and_the_token_reach_the_server(package, tmp_path):
    token_file = tmp_path / "token"
    token_file.write_text("secret-word\n")
    with run_kfp_server(token="secret-word", namespace="radiology") as api:
        cluster = Cluster(api.url, namespace="radiology", token_file=token_file)
        submit(cluster, upload(cluster, package), RunSettings("a run", "lung"))
        assert {item["namespace"] for item in api.experiments.values()} == {"radiology"}
        assert {item["namespace"] for item in api.pipelines.values()} == {"radiology"}


def test_a_missing_token_is_an_error_that_names_the_option(package):
    with run_kfp_server(token="secret-word") as api, pytest.raises(InputError, match=r"401.*unauth.*--token-file"):
        upload(Cluster(api.url), package)


def test_following_a_run_yields_each_change_and_the_end(api, cluster, run_id):
    ingest, train = ({"task_id": name, "display_name": name} for name in ("ingest", "train"))
    api.states = [
        {"state": "PENDING"},
        {"state": "RUNNING", "run_details": {"task_details": [ingest | {"state": "RUNNING"}]}},
        {"state": "RUNNING", "run_details": {"task_details": [ingest | {"state": "RUNNING"}]}},
        {
            "state": "FAILED",
            "error": {"message": "train: exit code 1"},
            "run_details": {"task_details": [ingest | {"state": "SUCCEEDED"}, train | {"state": "FAILED"}]},
        },
    ]
    assert list(follow(cluster, run_id, timeout_s=30, poll_s=0)) == [
        ("ingest", "RUNNING"),
        ("ingest", "SUCCEEDED"),
        ("train", "FAILED"),
        RunEnd(run_id, "FAILED", "train: exit code 1"),
    ]


def test_a_canceled_run_has_an_end(api, cluster, run_id):
    api.states = [{"state": "CANCELED"}]
    assert list(follow(cluster, run_id, timeout_s=30, poll_s=0)) == [RunEnd(run_id, "CANCELED", "")]


def test_a_run_that_exceeds_the_timeout_is_an_error_with_its_link(api, cluster, run_id):
    api.states = [{"state": "RUNNING"}]
    with pytest.raises(InputError, match=f"{run_id}.*0 s.*{api.url}/#/runs/details/{run_id}"):
        list(follow(cluster, run_id, timeout_s=0, poll_s=0))


def test_a_schedule_replaces_one_of_the_same_name(api, cluster, uploaded):
    for cron in ("0 0 3 * * 1", "0 30 4 * * 1"):
        schedule(cluster, uploaded, RunSettings("weekly", "lung", {"cases": 3}), cron)
    (kept,) = api.schedules.values()
    assert kept["trigger"]["cron_schedule"] == {"cron": "0 30 4 * * 1"}
    assert kept["mode"] == "ENABLE"
    assert kept["no_catchup"] is True
    assert kept["runtime_config"]["parameters"] == {"cases": 3}


def test_a_rejected_schedule_keeps_the_present_one(api, cluster, uploaded):
    kept = schedule(cluster, uploaded, RunSettings("weekly", "lung"), "0 0 3 * * 1")
    api.refuse["POST recurringruns"] = (400, "invalid cron")
    with pytest.raises(InputError, match="400: invalid cron"):
        schedule(cluster, uploaded, RunSettings("weekly", "lung"), "0 0 99 * * 1")
    assert list(api.schedules) == [kept]


def test_a_cron_expression_without_seconds_is_an_error_before_any_request(api, cluster, uploaded):
    before = len(api.requests)
    with pytest.raises(InputError, match=r"0 3 .*six fields"):
        schedule(cluster, uploaded, RunSettings("weekly", "lung"), "0 3 * * 1")
    assert len(api.requests) == before


def test_an_unreachable_api_is_an_error_in_one_line(package):
    with run_kfp_server() as api:
        gone = api.url
    with pytest.raises(InputError, match=f"{gone} is unreachable") as error:
        upload(Cluster(gone, namespace="radiology"), package)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["", "a: [", "a: 1"])
def test_a_file_that_is_not_a_package_is_an_error(api, cluster, tmp_path, content):
    path = tmp_path / "package.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=r"package.yaml: not a pipeline package"):
        upload(cluster, path)
    assert api.requests == []


@pytest.mark.parametrize(("token", "reason"), [(None, "cannot be read"), ("", "one word"), ("a b", "one word")])
def test_an_invalid_token_file_is_an_error(tmp_path, package, token, reason):
    token_file = tmp_path / "token"
    if token is not None:
        token_file.write_text(token)
    with pytest.raises(InputError, match=f"{token_file}: .*{reason}"):
        upload(Cluster("http://127.0.0.1:9", token_file=token_file), package)


def test_an_address_without_a_scheme_is_an_error(package):
    with pytest.raises(InputError, match=r"localhost:8888.*expected http"):
        upload(Cluster("localhost:8888"), package)


def test_a_run_link_keeps_the_path_of_the_host():
    assert run_link(Cluster("https://kubeflow.example/pipeline/"), "7") == (
        "https://kubeflow.example/pipeline/#/runs/details/7"
    )
