"""`deploy up` and `down`: real processes, real rendering and a real API server; the engine and the cluster are
programs that write down what reaches them."""

import shutil
import sys

import pytest
import yaml

from components.ct.errors import InputError
from pipelines.deploy import STEPS, down, main, up
from pipelines.deployment import Deployment
from pipelines.serving_manifests import removable, render, schema_mistakes
from tests.pipelines.kfp_server import running
from tests.pipelines.test_cluster import compiled

KUBECTL = shutil.which("kubectl")
needs_kubectl = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed, which renders the manifests")
GCS = Deployment(overlay="gcs", model_base="gs://scans/lung-infection", gcp_service_account="reader@p.example")

# The engine: a folder of images built and pushed. It fails once for what stands in the file "fail".
ENGINE = """#!/bin/sh
if [ "$(cat {state}/fail 2>/dev/null)" = "$1" ]; then rm {state}/fail; echo "$1: reset" >&2; exit 1; fi
for last; do :; done
case $1 in
  build) while [ "$1" != -t ]; do shift; done; touch "{state}/built-$(echo $2 | tr / _)" ;;
  push) touch "{state}/pushed-$(echo $last | tr / _)" ;;
esac
"""
# The cluster: applying writes the rendered objects down, the rest is noted.
CLUSTER = """#!/bin/sh
if [ "$(cat {state}/fail 2>/dev/null)" = "$1" ]; then rm {state}/fail; echo "$1: timeout" >&2; exit 1; fi
for last; do :; done
case $1 in
  kustomize) exec {kubectl} "$@" ;;
  apply) {kubectl} kustomize "$last" > {state}/applied.yaml ;;
  rollout) touch {state}/rolled-out ;;
  delete) cp "$last" {state}/deleted.yaml ;;
  *) exit 1 ;;
esac
"""


@pytest.fixture
def state(tmp_path, monkeypatch):
    """Where the programs write; they stand first on the PATH."""
    folder, programs = tmp_path / "state", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    for name, text in {"docker": ENGINE, "kubectl": CLUSTER}.items():
        (programs / name).write_text(text.format(state=folder, kubectl=KUBECTL))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    return folder


@pytest.fixture
def api():
    with running() as server:
        yield server


def deployment(api):
    return Deployment(registry="r.example/lung", revision="abc123", host=api.url, overlay="gcs", model_base="gs://b/m")


def contents(state, api):
    files = {path.name: path.read_text() for path in state.iterdir()}
    versions = [version["display_name"] for version in api.versions.values()]
    return files, versions, len(api.pipelines)


@needs_kubectl
def test_a_repeated_deploy_ends_in_the_same_state(state, api, tmp_path):
    compiled(tmp_path / "training.yaml", 5)
    up(deployment(api), tmp_path, skip=["compile"])
    first = contents(state, api)
    up(deployment(api), tmp_path, skip=["compile"])
    assert contents(state, api) == first
    assert set(first[0]) >= {
        "built-r.example_lung_lung-ct-python:cpu-abc123",
        "pushed-r.example_lung_lung-ct-python:cpu-abc123",
        "rolled-out",
    }


@needs_kubectl
@pytest.mark.parametrize("interrupted", ["build", "push", "upload", "kustomize", "apply", "rollout"])
def test_a_deploy_that_was_interrupted_ends_in_the_same_state_when_repeated(interrupted, state, api, tmp_path):
    compiled(tmp_path / "training.yaml", 5)
    if interrupted == "upload":
        api.lost_writes = 1
    else:
        (state / "fail").write_text(interrupted)
    with pytest.raises(InputError):
        up(deployment(api), tmp_path, skip=["compile"])
    up(deployment(api), tmp_path, skip=["compile"])
    with running() as other:
        undisturbed = tmp_path / "undisturbed"
        undisturbed.mkdir()
        shutil.copy(tmp_path / "training.yaml", undisturbed)
        mended = contents(state, api)
        for path in state.iterdir():
            path.unlink()
        up(deployment(other), undisturbed, skip=["compile"])
        assert contents(state, other) == mended


@needs_kubectl
def test_a_dry_run_says_everything_and_touches_nothing(state, tmp_path, capsys):
    up(Deployment(registry="r.example", revision="abc123", gpus=1), tmp_path, dry_run=True)
    told = capsys.readouterr().out
    assert [line.removeprefix("── ") for line in told.splitlines() if line.startswith("──")] == list(STEPS)
    for part in ("docker build", "docker push", "TRAIN_IMAGE=r.example/lung-ct-python:gpu-abc123", "kubectl apply"):
        assert part in told
    assert "Deployment lung-infection/lung-infection" in told
    assert list(state.iterdir()) == []


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


def test_the_packages_are_compiled_by_this_python():
    from pipelines.deploy import compile_command

    command, images = compile_command(Deployment(revision="abc", registry="r.example", model_claim="models"))
    assert command[0] == sys.executable
    assert command[-2:] == ["--model-claim", "models"]
    assert images == {"CPU_IMAGE": "r.example/lung-ct-python:cpu-abc"}
