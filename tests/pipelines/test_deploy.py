"""`deploy up` and `down`: real processes, real rendering and a real API server."""

import itertools
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from components import images
from components.runtime.errors import InputError
from pipelines.deploy.deploy import STEPS, build_commands, compile_command, down, main, up
from pipelines.deploy.deployment import Deployment
from pipelines.deploy.serving_manifests import kustomization, removable, render, schema_mistakes
from pipelines.deploy.shell import ROOT
from pipelines.parameters import PIPELINES
from serving.versions.model_config import from_message, read_model_config, write_model_config
from tests.pipelines.deploy_programs import KUBECTL, contents, needs_kubectl
from tests.pipelines.kfp_server import running

GCS = Deployment(overlay="gcs", model_base="gs://scans/lung-infection", gcp_service_account="reader@p.example")


def deployment(api):
    return Deployment(registry="r.example/lung", revision="abc123", host=api.url, overlay="gcs", model_base="gs://b/m")


@needs_kubectl
def test_a_repeated_deploy_ends_in_the_same_state(state, api, packages):
    up(deployment(api), packages, skip=["compile"])
    first = contents(state, api)
    up(deployment(api), packages, skip=["compile"])
    assert contents(state, api) == first
    assert set(first[0]) >= {
        "built-r.example_lung_lung-ct-python:cpu-abc123",
        "built-r.example_lung_lung-ct-python:data-abc123",
        "pushed-r.example_lung_lung-ct-python:cpu-abc123",
        "rolled-out",
    }
    assert len(first[1]) == first[2] == len(PIPELINES)


@needs_kubectl
@pytest.mark.parametrize("failing", ["build", "upload", "rollout"])
def test_a_deploy_whose_step_failed_ends_in_the_same_state_when_repeated(failing, state, api, packages):
    if failing == "upload":
        api.lost_writes = 1
    else:
        (state / "fail").write_text(failing)
    with pytest.raises(InputError):
        up(deployment(api), packages, skip=["compile"])
    up(deployment(api), packages, skip=["compile"])
    mended = contents(state, api)
    for path in state.iterdir():
        path.unlink()
    with running() as other:
        up(deployment(other), packages, skip=["compile"])
        assert contents(state, other) == mended


@needs_kubectl
def test_a_dry_run_says_everything_and_touches_nothing(state, tmp_path, capsys):
    up(Deployment(registry="r.example", revision="abc123", gpus=1), tmp_path, dry_run=True)
    told = capsys.readouterr().out
    assert [line.removeprefix("── ") for line in told.splitlines() if line.startswith("──")] == list(STEPS)
    for part in ("docker build", "docker push", "TRAIN_IMAGE=r.example/lung-ct-python:gpu-abc123", "kubectl apply"):
        assert part in told
    assert told.count("as version sha256-") == len(PIPELINES)
    assert "Deployment lung-infection/lung-infection" in told
    assert "objects, valid by the schemas of Kubernetes" in told
    assert list(state.iterdir()) == []
    assert list(tmp_path.glob("*.yaml")) == []


@needs_kubectl
def test_every_step_can_be_left_out(state, tmp_path, capsys):
    up(Deployment(), tmp_path, skip=STEPS)
    assert list(state.iterdir()) == []
    assert capsys.readouterr().out.count("skipped") == len(STEPS)


@needs_kubectl
def test_undeploying_keeps_models_and_the_namespace(state, tmp_path):
    down(Deployment(overlay="local"), tmp_path)
    deleted = {item["kind"] for item in yaml.safe_load_all((state / "deleted.yaml").read_text())}
    assert "Deployment" in deleted
    assert deleted.isdisjoint({"Namespace", "PersistentVolumeClaim"})


@needs_kubectl
@pytest.mark.parametrize("overlay", ["gcs", "gpu", "kserve"])
def test_the_deployments_own_values_reach_the_manifests(overlay, tmp_path):
    digest = "sha256:" + "0" * 64
    given = Deployment(
        overlay=overlay,
        model_base="gs://scans/lung-infection",
        gcp_service_account="reader@p.example",
        serving_digest=digest,
        namespace="radiology",
    ).checked()
    objects = render(given, tmp_path)
    text = yaml.safe_dump_all(objects)
    assert "gs://scans/lung-infection" in text
    assert "example-models" not in text
    assert "example-project" not in text
    assert text.count(f"@{digest}") == 1
    assert {item["metadata"].get("namespace") for item in objects} == {"radiology"}
    assert all(item["kind"] != "Namespace" for item in objects)
    assert removable(objects) == objects


@needs_kubectl
def test_what_is_deployed_is_valid(tmp_path):
    pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    objects = render(GCS, tmp_path)
    assert schema_mistakes(objects) == []
    objects[0]["speck"] = {}
    assert len(schema_mistakes(objects)) == 1


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"overlay": "cloud"}, "expected one of local, gcs, gpu, kserve"),
        ({"options": ("ssl",)}, "expected some of tls"),
        ({"overlay": "kserve", "options": ("tls",)}, "KServe brings its own"),
        ({"serving_digest": "2.21.0"}, "64 hexadecimal digits"),
        ({"overlay": "gcs", "model_base": "/models/m"}, "others gs://"),
        ({"overlay": "local", "model_base": "gs://b/m"}, "a folder of its volume"),
    ],
)
def test_values_that_cannot_work_are_refused(values, told):
    with pytest.raises(InputError, match=told):
        Deployment(**values).checked()


def test_changed_files_are_not_pushed_under_a_tag_that_nodes_may_hold(state, tmp_path):
    with pytest.raises(InputError, match="commit them"):
        up(Deployment(registry="r.example", revision="abc-dirty"), tmp_path)
    assert list(state.iterdir()) == []


def test_a_missing_engine_is_told_in_one_line(state, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SystemExit, match="docker is not installed; `make doctor` says how to get it"):
        main(["up", "--revision", "abc", "--build", str(tmp_path)])


def test_the_doctor_names_what_is_missing_and_the_way_to_it(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    with running() as gone:
        pass
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--registry", "r.example/lung", "--host", gone.url, "--revision", "abc"])
    told = capsys.readouterr().out
    assert ended.value.code == 1
    assert [line.split()[1] for line in told.splitlines() if line.startswith("MISSING")] == [
        "docker",
        "registry",
        "kubectl",
        "pipelines",
    ]
    assert "install docker" in told
    assert "docker login r.example" in told
    assert "port-forward" in told


def test_the_packages_are_compiled_by_this_python_for_the_images_of_the_revision(tmp_path):
    given = Deployment(revision="abc", registry="r.example", model_claim="models", compile_with="--cpu slice=16")
    command, told = compile_command(given, tmp_path)
    assert command[:4] == [sys.executable, "-m", "pipelines.cli", "compile"]
    assert command[4:] == ["-o", str(tmp_path), "--model-claim", "models", "--cpu", "slice=16"]
    assert told == {
        "CPU_IMAGE": "r.example/lung-ct-python:cpu-abc",
        "DATA_IMAGE": "r.example/lung-ct-python:data-abc",
    }


def test_an_image_is_tagged_by_its_revision_and_by_the_name_that_runs_here_use():
    data, cpu, gpu = build_commands(Deployment(engine="podman", revision="abc", gpus=1))
    for kind, command in {"data": data, "cpu": cpu, "gpu": gpu}.items():
        tags = [word for before, word in itertools.pairwise(command) if before == "-t"]
        assert tags == [f"localhost/lung-ct-python:{kind}-abc", f"localhost/lung-ct-python:{kind}"]
        assert command[command.index("--target") + 1] == kind
        assert {"REVISION=abc", "VERSION=0.1.0"} <= set(command)
    assert images.CPU in cpu


@needs_kubectl
def test_a_promoted_label_reaches_the_servers_and_stays_at_the_next_deploy(tmp_path):
    k8s = shutil.copytree(ROOT / "serving" / "k8s", tmp_path / "k8s")
    config_file = k8s / "overlays" / "gcs" / "models.config"
    write_model_config(config_file, [replace(*read_model_config(config_file), specific=(6, 7), labels={"stable": 6})])
    folder = tmp_path / "serving"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization(GCS, folder, k8s)))
    rendered = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True, check=True).stdout
    (text,) = (
        item["data"]["models.config"]
        for item in yaml.safe_load_all(rendered)
        if item["kind"] == "ConfigMap" and "models.config" in item["data"]
    )
    (config,) = from_message(text_format.Parse(text, ModelServerConfig()))
    assert (config.base, config.specific, config.labels) == (GCS.model_base, (6, 7), {"stable": 6})
