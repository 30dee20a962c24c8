"""`lung-ct check-cluster` against a server of the API, a stand-in for the backend, and embedded servers as pods."""

import json
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from components.runtime.errors import InputError
from pipelines.cli import main
from pipelines.cluster.check_serving import ServedModel, Servers
from serving.versions.manifest import write_manifest
from serving.versions.model_config import ModelConfig, read_model_config, write_model_config
from tests.pipelines.backend import Backend, StoredFiles
from tests.pipelines.kfp_server import run_kfp_server
from tests.serving.test_replicas import install_kubectl, serving
from tests.serving.toy import save_toy_model

ROW = re.compile(r"(?P<name>[\w -]+?) {2,}(?P<expected>.+?) {2,}(?P<seconds>\d+)  (?P<outcome>\w[\w ]*): (?P<seen>.*)")
CREATED = ("runs", "experiments", "pipelines", "versions")


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("build")
    main(["compile", "-o", str(folder)])
    return folder


@pytest.fixture
def api(tmp_path, monkeypatch):
    """The API, whose runs a backend executes."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with run_kfp_server() as server:
        server.backend = Backend(tmp_path / "store")
        server.artifacts = StoredFiles(server.backend.store)
        yield server


@pytest.fixture
def pods(tmp_path, monkeypatch):
    """A function that makes servers' ports those of pods behind a stand-in for kubectl."""
    state = install_kubectl(tmp_path, monkeypatch)

    def name(addresses):
        ports = {f"pod-{number}": address.rpartition(":")[2] for number, address in enumerate(addresses)}
        running = {"spec": {"nodeName": "node"}, "status": {"phase": "Running"}}
        (state / "pods.json").write_text(json.dumps({"items": [running | {"metadata": {"name": n}} for n in ports]}))
        (state / "ports.json").write_text(json.dumps(ports))
        return ports

    return name


@pytest.fixture
def real_model(tmp_path):
    """The configuration of the servers, with the model of production."""
    save_version(tmp_path / "models/lung-infection", 1)
    config = ModelConfig("lung-infection", str(tmp_path / "models/lung-infection"), (1,), labels={"stable": 1})
    (tmp_path / "state").mkdir(exist_ok=True)
    for path in (tmp_path / "state/models.config", tmp_path / "mounted.config"):
        write_model_config(path, [config])
    return config


def save_version(base, number):
    folder = base / str(number)
    save_toy_model(folder)
    (folder / "assets.extra").mkdir()
    write_manifest(folder)


def rows(text):
    """The table's rows by check."""
    heading, *lines = text.splitlines()
    assert heading.split() == ["check", "expected", "seconds", "seen"]
    found = [ROW.fullmatch(line) for line in lines]
    assert all(found), text
    return {row["name"]: (row["outcome"], row["seen"]) for row in found if row}


def check(*arguments):
    with pytest.raises(SystemExit) as end:
        main(["check-cluster", *map(str, arguments)])
    return end.value.code


def left_on(api):
    return [name for name in CREATED if getattr(api, name)]


def test_a_page_in_place_of_the_api_fails_one_check_and_skips_the_others(build, capsys):
    with run_kfp_server(kind="kubeflow", namespace="radiology") as api:
        assert check("--host", api.url, "--build", build, "--skip", "serving") == 1
    table = rows(capsys.readouterr().out)
    assert table["Kubeflow API"][0] == "FAILED"
    assert "log in" in table["Kubeflow API"][1]
    assert table["training"] == ("not checked", "needs Kubeflow API")
    assert table["reports"] == ("not checked", "needs training")
    assert table["serving"] == ("not checked", "needs servers (--skip serving)")
    assert table["cleanup"] == ("ok", "nothing is left")


def test_a_failed_step_is_named_and_a_cluster_without_retries_is_a_note(api, build, tmp_path, capsys):
    api.backend.retry_policy = "OnError"
    api.backend.faults["identify"] = "echo no route to the source; exit 1"
    options = ["--poll", "0.1", "--skip", "serving", "--model-base", tmp_path / "models/lung", "--pipeline-root"]
    assert check("--host", api.url, "--build", build, *options, "minio://mlpipeline/check") == 1
    table = rows(capsys.readouterr().out)
    assert table["Kubeflow API"] == ("ok", api.url)
    assert table["training"][0] == "FAILED"
    assert table["training"][1].startswith("FAILED in Fingerprint source: ")
    assert table["cache and gate"] == ("not checked", "needs training")
    assert table["retry"][0] == "note"
    assert "retryPolicy is OnError" in table["retry"][1]
    assert table["cross-validation"][0] == "FAILED"
    assert table["cleanup"][0] == "note"  # the object store is not reachable from here
    assert table["cleanup"][1].count("minio://mlpipeline/check/lung-infection-") == 3
    assert left_on(api) == []


def test_a_step_that_fails_once_is_retried_by_default(api, build, capsys):
    api.backend.faults["identify"] = "exit 1"
    check("--host", api.url, "--build", build, "--poll", "0.1", "--skip", "serving")
    assert rows(capsys.readouterr().out)["retry"] == ("ok", "succeeded at attempt 2")


def test_an_interrupted_check_deletes_what_it_created(api, build, tmp_path):
    api.backend.faults["identify"] = "exec sleep 60"
    command = [sys.executable, "-m", "pipelines.cli", "check-cluster", "--host", api.url, "--build", str(build)]
    with subprocess.Popen(
        [*command, "--poll", "0.1", "--skip", "serving"], stdout=subprocess.PIPE, text=True
    ) as process:
        while len(api.runs) < 3:
            time.sleep(0.1)
            assert process.poll() is None
        assert left_on(api) == list(CREATED)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert rows(output).keys() == {"Kubeflow API", "cleanup"}
    assert left_on(api) == []


def test_a_version_uploaded_before_the_check_stays(api, build, capsys):
    main(["upload", "--host", api.url, "--package", str(build / "training.yaml")])
    capsys.readouterr()
    api.backend.faults["identify"] = "exit 1"
    check("--host", api.url, "--build", build, "--poll", "0.1", "--skip", "serving")
    assert len(api.versions) == 1
    assert left_on(api) == ["pipelines", "versions"]


@pytest.fixture
def timeout_s():
    return 30


@pytest.fixture
def served(pods, real_model, tmp_path, timeout_s):
    """A model for the check on two servers, which also serve the real one."""
    with serving(tmp_path / "mounted.config") as servers:
        pods([server.address for server in servers])
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        with ServedModel(
            Servers("serving", timeout_s=timeout_s), "check", str(tmp_path / "models/check"), scratch
        ) as model:
            yield model


def test_labels_move_on_every_server_and_the_real_model_stays(served, real_model, tmp_path):
    for number in (1, 2):
        save_version(tmp_path / "models/check", number)
    assert served.add(1) == "version 1 answers on 2 servers with finite probabilities"
    assert served.move_labels(1, 2).endswith("rollback to stable 1 on 2 servers")
    assert read_model_config(tmp_path / "state/models.config")[0] == real_model
    served.remove()
    assert read_model_config(tmp_path / "state/models.config") == [real_model]


@pytest.mark.parametrize("timeout_s", [2])
def test_a_version_that_servers_cannot_load_is_an_error_with_their_reason(served, tmp_path):
    save_version(tmp_path / "models/check", 1)
    (tmp_path / "models/check/1/saved_model.pb").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"version 1 is not available: pod-0: .*saved_model\.pb"):
        served.add(1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_check_passes_and_leaves_nothing(api, build, pods, real_model, tmp_path):
    with ExitStack() as stack:
        command = [sys.executable, "-m", "serving.server", "--model-config-file", tmp_path / "mounted.config"]
        addresses = []
        for _ in range(2):
            server = stack.enter_context(subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True))
            stack.callback(server.terminate)
            addresses.append(next(line for line in server.stdout if line.startswith("serving ")).split()[-1])
        pods(addresses)
        command = [sys.executable, "-m", "pipelines.cli", "check-cluster", "--host", api.url, "--build", build]
        command += ["--model-base", tmp_path / "models/lung-infection", "--namespace", "serving", "--poll", "0.5"]
        result = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    table = rows(result.stdout)
    print(result.stdout)
    failed = {name: row for name, row in table.items() if row[0] != "ok"}
    assert failed.keys() == {"cleanup"}, (failed, api.backend.log)
    assert failed["cleanup"][0] == "note"
    assert failed["cleanup"][1].count("<default pipeline root>/") == 5
    assert result.returncode == 0
    assert table["cache and gate"][1].endswith("Ingest cohort from the cache")
    assert table["retry"][1] == "succeeded at attempt 2"
    assert left_on(api) == []
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["lung-infection"]
    assert read_model_config(tmp_path / "state/models.config") == [real_model]
