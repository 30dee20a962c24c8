"""Upload, submit, schedule and delete against a real HTTP server of the Kubeflow Pipelines API."""

import pytest
from kfp import compiler, dsl

from components.runtime.errors import InputError
from pipelines.cluster.connection import Cluster
from pipelines.cluster.runs import (
    RunSettings,
    delete_experiment,
    delete_run,
    delete_version,
    package_version,
    run_link,
    schedule,
    submit,
    upload,
)
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


def test_a_schedule_replaces_one_of_the_same_name_in_its_experiment(api, cluster, uploaded):
    other = schedule(cluster, uploaded, RunSettings("weekly", "pilot"), "0 0 3 * * 1")
    for cron in ("0 0 3 * * 1", "0 30 4 * * 1"):
        created = schedule(cluster, uploaded, RunSettings("weekly", "lung", {"cases": 3}), cron)
    assert (created.replaced, created.other_experiments) == (1, ("pilot",))
    assert set(api.schedules) == {other.schedule_id, created.schedule_id}
    kept = api.schedules[created.schedule_id]
    assert kept["trigger"]["cron_schedule"] == {"cron": "0 30 4 * * 1"}
    assert kept["mode"] == "ENABLE"
    assert kept["no_catchup"] is True
    assert kept["runtime_config"]["parameters"] == {"cases": 3}


def test_a_rejected_schedule_keeps_the_present_one(api, cluster, uploaded):
    kept = schedule(cluster, uploaded, RunSettings("weekly", "lung"), "0 0 3 * * 1").schedule_id
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


@pytest.mark.parametrize(("extra", "accepted"), [(0, True), (1, False)])
def test_parameters_that_exceed_a_linux_argument_are_an_error_before_the_run(api, cluster, uploaded, extra, accepted):
    # The first driver gets them as one argument (argocompiler/dag.go), at most MAX_ARG_STRLEN - 1 = 131,071 bytes.
    overhead = len('{"parameterValues":{"hard_cases":"","cases":1}}') + len("é".encode())
    settings = RunSettings("a run", "lung", {"hard_cases": "é" + "x" * (131_071 - overhead + extra), "cases": 1})
    before = len(api.requests)
    if accepted:
        submit(cluster, uploaded, settings)
        return
    for send in (submit, lambda *arguments: schedule(*arguments, "0 0 3 * * 1")):
        with pytest.raises(InputError, match=r"parameter hard_cases: 131,0\d\d bytes.*131,072.*at most 131,071"):
            send(cluster, uploaded, settings)
    assert len(api.requests) == before


def test_what_a_check_creates_can_be_deleted(api, cluster, tmp_path):
    first = upload(cluster, compile_counting(tmp_path / "first.yaml", 5))
    second = upload(cluster, compile_counting(tmp_path / "second.yaml", 6))
    run_id = submit(cluster, second, RunSettings("a run", "check"))
    delete_run(cluster, run_id)
    delete_version(cluster, first)
    assert list(api.versions) == [second.version_id]
    delete_version(cluster, second)
    for _ in range(2):
        delete_experiment(cluster, "check")
    assert (api.runs, api.versions, api.pipelines, api.experiments) == ({}, {}, {}, {})


def test_a_multi_user_kubeflow_without_a_namespace_is_an_error_before_the_run(package):
    with run_kfp_server(namespace="radiology") as api:
        cluster = Cluster(api.url)
        uploaded = upload(cluster, package)
        with pytest.raises(InputError, match=r"multi-user.*expected --namespace"):
            submit(cluster, uploaded, RunSettings("a run", "lung"))
        assert api.experiments == {}


@pytest.mark.parametrize("ending", ["", "/", "//"])
def test_a_run_link_keeps_the_path_of_the_host(api, ending):
    assert run_link(Cluster(f"{api.url}/pipeline{ending}"), "7") == f"{api.url}/pipeline/#/runs/details/7"


def test_a_run_link_has_no_host_if_only_the_api_is_forwarded():
    with run_kfp_server(kind="api") as api:
        assert run_link(Cluster(api.url), "7") == "#/runs/details/7 in the Kubeflow UI"
