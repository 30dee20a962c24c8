"""`deploy`, `undeploy` and `doctor` with real processes, kubectl and API server."""

import itertools
import re
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
from components.runtime.programs import ROOT
from pipelines.cli import main
from pipelines.deploy.deploy import build_commands, compile_command, deploy, undeploy
from pipelines.deploy.deployment import STAGES, Deployment
from pipelines.deploy.serving_manifests import build_kustomization, removable_objects, render, validate_schemas
from pipelines.parameters import PIPELINES
from serving.versions.model_config import from_message, read_model_config, write_model_config
from tests.pipelines.deploy_programs import KUBECTL, recorded_state
from tests.pipelines.kfp_server import run_kfp_server

GCS = Deployment(overlay="gcs", model_base="gs://scans/lung-infection", gcp_service_account="reader@p.example")


def settings(api):
    return Deployment(registry="r.example/lung", revision="abc123", host=api.url, overlay="gcs", model_base="gs://b/m")


def test_repeating_a_deploy_changes_nothing(state, api, packages):
    deploy(settings(api), packages, skip=["compile"])
    first = recorded_state(state, api)
    deploy(settings(api), packages, skip=["compile"])
    assert recorded_state(state, api) == first
    assert set(first[0]) >= {
        "built-r.example_lung_lung-ct-python:cpu-abc123",
        "built-r.example_lung_lung-ct-python:data-abc123",
        "pushed-r.example_lung_lung-ct-python:cpu-abc123",
        "rolled-out",
    }
    assert len(first[1]) == first[2] == len(PIPELINES)


@pytest.mark.parametrize("failing", ["build", "upload", "rollout"])
def test_repeating_a_failed_deploy_completes_it(failing, state, api, packages):
    if failing == "upload":
        api.lost_writes = 1
    else:
        (state / "fail").write_text(failing)
    with pytest.raises(InputError):
        deploy(settings(api), packages, skip=["compile"])
    deploy(settings(api), packages, skip=["compile"])
    completed = recorded_state(state, api)
    for path in state.iterdir():
        path.unlink()
    with run_kfp_server() as other:
        deploy(settings(other), packages, skip=["compile"])
        assert recorded_state(state, other) == completed


def test_a_dry_run_logs_everything_and_changes_nothing(state, tmp_path, caplog):
    deploy(Deployment(registry="r.example", revision="abc123", gpus=1), tmp_path, dry_run=True)
    log = "\n".join(caplog.messages)
    assert [line.removeprefix("── ") for line in log.splitlines() if line.startswith("──")] == list(STAGES)
    for part in ("docker build", "docker push", "TRAIN_IMAGE=r.example/lung-ct-python:gpu-abc123", "kubectl apply"):
        assert part in log
    assert log.count("as version sha256-") == len(PIPELINES)
    assert "Deployment lung-infection/lung-infection" in log
    assert "objects match the Kubernetes" in log
    assert list(state.iterdir()) == []
    assert list(tmp_path.glob("*.yaml")) == []


def test_every_stage_can_be_skipped(state, tmp_path, caplog):
    deploy(Deployment(), tmp_path, skip=STAGES)
    assert list(state.iterdir()) == []
    assert caplog.messages == [f"── {stage}: skipped" for stage in STAGES]


def test_undeploy_keeps_models_and_the_namespace(state, tmp_path):
    undeploy(Deployment(overlay="local"), tmp_path)
    deleted = {item["kind"] for item in yaml.safe_load_all((state / "deleted.yaml").read_text())}
    assert "Deployment" in deleted
    assert deleted.isdisjoint({"Namespace", "PersistentVolumeClaim"})


@pytest.mark.parametrize("overlay", ["gcs", "gpu", "kserve"])
def test_the_manifests_have_the_settings_of_the_deployment(overlay, tmp_path):
    digest = "sha256:" + "0" * 64
    objects = render(replace(GCS, overlay=overlay, serving_digest=digest, namespace="radiology"), tmp_path)
    text = yaml.safe_dump_all(objects)
    assert "gs://scans/lung-infection" in text
    assert "example-models" not in text
    assert "example-project" not in text
    assert text.count(f"@{digest}") == 1
    assert {item["metadata"].get("namespace") for item in objects} == {"radiology"}
    assert all(item["kind"] != "Namespace" for item in objects)
    assert removable_objects(objects) == objects


def test_the_rendered_objects_match_the_schemas(tmp_path):
    objects = render(GCS, tmp_path)
    assert validate_schemas(objects) == []
    objects[0]["speck"] = {}
    assert len(validate_schemas(objects)) == 1


@pytest.mark.parametrize(
    ("values", "facts"),
    [
        ({"overlay": "kserve", "options": ("tls",)}, "tls: .*kserve"),
        ({"serving_digest": "2.21.0"}, "2.21.0.*64 hexadecimal digits"),
        ({"overlay": "gcs", "model_base": "/models/m"}, "/models/m: .*gcs.*gs://"),
        ({"overlay": "local", "model_base": "gs://b/m"}, "gs://b/m: .*local.*folder"),
    ],
)
def test_contradictory_settings_are_an_error(values, facts):
    with pytest.raises(InputError, match=facts):
        Deployment(**values)


@pytest.mark.parametrize(
    ("option", "choices"),
    [(["--overlay", "cloud"], "local.*gcs.*gpu.*kserve"), (["--options", "ssl"], "tls.*batching")],
)
def test_an_unknown_overlay_or_option_lists_the_choices(option, choices, capsys):
    with pytest.raises(SystemExit):
        main(["deploy", *option])
    assert re.search(f"'{option[1]}'.*{choices}", capsys.readouterr().err)


def test_changed_files_are_not_pushed_under_a_tag_that_nodes_may_have_cached(state, tmp_path):
    with pytest.raises(InputError, match=r"abc-dirty: .*commit"):
        deploy(Deployment(registry="r.example", revision="abc-dirty"), tmp_path)
    assert list(state.iterdir()) == []


def test_an_overlay_in_a_namespace_that_does_not_exist_is_an_error(state, api, packages, capfd):
    with pytest.raises(InputError, match=r"kubectl apply .*exited with 1"):
        deploy(replace(settings(api), namespace="radiology"), packages, skip=STAGES[:-1])
    assert 'namespaces "radiology" not found' in capfd.readouterr().err


def test_a_missing_engine_is_an_error_that_names_the_doctor(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/missing")
    with pytest.raises(SystemExit, match=r"error: docker .*make doctor"):
        main(["deploy", "--revision", "abc", "--build", str(tmp_path)])


def test_the_doctor_lists_what_is_missing_with_remedies(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", "/missing")
    monkeypatch.setenv("HOME", str(tmp_path))
    with run_kfp_server() as stopped:
        pass
    with pytest.raises(SystemExit) as exit_:
        main(["doctor", "--registry", "r.example/lung", "--host", stopped.url, "--revision", "abc"])
    report = capsys.readouterr().out
    assert exit_.value.code == 1
    missing = [line.split()[1] for line in report.splitlines() if line.startswith("MISSING")]
    assert missing == ["docker", "registry", "kubectl", "pipelines"]
    for remedy in ("install docker", "docker login r.example", "install kubectl", "port-forward"):
        assert remedy in report


def test_the_packages_are_compiled_with_the_images_of_the_revision(tmp_path):
    deployment = Deployment(
        revision="abc", registry="r.example", model_claim="m", data_claim="d", compile_with="--cpu slice=16"
    )
    command, environment = compile_command(deployment, tmp_path)
    assert command[:4] == [sys.executable, "-m", "pipelines.cli", "compile"]
    assert command[4:] == ["-o", str(tmp_path), "--model-claim", "m", "--data-claim", "d", "--cpu", "slice=16"]
    assert environment == {
        "CPU_IMAGE": "r.example/lung-ct-python:cpu-abc",
        "DATA_IMAGE": "r.example/lung-ct-python:data-abc",
    }


def test_an_image_is_tagged_for_the_registry_and_for_local_runs():
    data, cpu, gpu = build_commands(Deployment(engine="podman", revision="abc", gpus=1))
    for kind, command in {"data": data, "cpu": cpu, "gpu": gpu}.items():
        tags = [word for before, word in itertools.pairwise(command) if before == "-t"]
        assert tags == [f"localhost/lung-ct-python:{kind}-abc", f"localhost/lung-ct-python:{kind}"]
        assert command[command.index("--target") + 1] == kind
        assert {"--build-arg=REVISION=abc", "--build-arg=VERSION=0.1.0"} <= set(command)
    assert images.CPU in cpu


def test_a_promoted_label_stays_after_the_next_deploy(tmp_path):
    k8s = shutil.copytree(ROOT / "serving" / "k8s", tmp_path / "k8s")
    config_file = k8s / "overlays" / "gcs" / "models.config"
    write_model_config(config_file, [replace(*read_model_config(config_file), specific=(6, 7), labels={"stable": 6})])
    folder = tmp_path / "serving"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(build_kustomization(GCS, folder, k8s)))
    rendered = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True, check=True).stdout
    (text,) = (
        item["data"]["models.config"]
        for item in yaml.safe_load_all(rendered)
        if item["kind"] == "ConfigMap" and "models.config" in item["data"]
    )
    (config,) = from_message(text_format.Parse(text, ModelServerConfig()))
    assert (config.base, config.specific, config.labels) == (GCS.model_base, (6, 7), {"stable": 6})
