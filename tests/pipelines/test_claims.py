"""Claims become writable for pods that run as user 10001 without fsGroup, as Kubeflow's do."""

import os
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from components.runtime.errors import InputError
from pipelines.deploy import claims
from pipelines.deploy.claims import USER, build_job
from pipelines.deploy.deploy import deploy
from pipelines.deploy.deployment import STAGES, Deployment
from pipelines.deploy.serving_manifests import SERVED_CLAIM
from tests.serving_k8s.rendering import of_kind, render
from tests.serving_k8s.restricted import project_violations, violations

DEPLOYMENT = Deployment(registry="r.example", revision="abc", model_claim="models", checkpoint_claim="checkpoints")
ONLY_CLAIMS = [stage for stage in STAGES if stage != "claims"]


@pytest.fixture
def cluster(state, monkeypatch):
    """The stand-in for kubectl, with a claim of each kind."""
    monkeypatch.setattr(claims, "_POLL_S", 0)
    (state / "objects.yaml").write_text(
        yaml.safe_dump(
            {f"kubeflow/persistentvolumeclaim/{name}": {"metadata": {}} for name in ("models", "checkpoints")}
        )
    )
    return state


def objects(state):
    return yaml.safe_load((state / "objects.yaml").read_text())


def test_each_claim_is_prepared_once(cluster, tmp_path, caplog):
    deploy(DEPLOYMENT, tmp_path, skip=ONLY_CLAIMS)
    first = objects(cluster)
    assert {key for key in first if "/job/" in key} == {
        "kubeflow/job/prepare-models",
        "kubeflow/job/prepare-checkpoints",
    }
    deploy(replace(DEPLOYMENT, revision="def"), tmp_path, skip=ONLY_CLAIMS)  # a server may use the volume by now
    assert objects(cluster) == first
    assert f"models: already writable by {USER}" in caplog.text


def test_a_failed_job_is_an_error_with_its_message_and_the_next_deploy_replaces_it(cluster, tmp_path):
    (cluster / "job-log").write_text("claim models: user 10001:10001 cannot write the volume\n")
    with pytest.raises(InputError, match=r"^claim models: user 10001:10001 cannot write the volume$"):
        deploy(DEPLOYMENT, tmp_path, skip=ONLY_CLAIMS)
    (cluster / "job-log").unlink()
    deploy(replace(DEPLOYMENT, revision="def"), tmp_path, skip=ONLY_CLAIMS)
    job = objects(cluster)["kubeflow/job/prepare-models"]
    assert job["spec"]["template"]["spec"]["containers"][0]["image"].endswith("data-def")


def test_a_missing_claim_is_an_error_with_the_command_that_creates_one(cluster, tmp_path):
    with pytest.raises(InputError, match=r"claim models: .*not found; .*namespace ana; .*kubectl apply -n ana"):
        deploy(replace(DEPLOYMENT, kfp_namespace="ana"), tmp_path, skip=ONLY_CLAIMS)


def test_a_pod_that_does_not_start_is_an_error_with_the_reason(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "_TIMEOUT_S", 1.0)
    (cluster / "job-waits").write_text("pull access denied for r.example")
    with pytest.raises(InputError, match=r"prepare-models .*ImagePullBackOff: pull access denied for r.example"):
        deploy(DEPLOYMENT, tmp_path, skip=ONLY_CLAIMS)


@pytest.mark.parametrize(
    ("claim", "namespace", "fact"),
    [("models", "kubeflow", "kubeflow/models: .*kubeflow/lung-inf"), (SERVED_CLAIM, "other", "other/lung-inf")],
)
def test_servers_that_would_read_another_claim_than_export_writes_are_an_error(claim, namespace, fact, state, tmp_path):
    with pytest.raises(InputError, match=fact):
        deploy(Deployment(model_claim=claim, namespace=namespace), tmp_path, skip=STAGES[:-1])


def test_the_claim_that_servers_read_is_that_of_the_overlay():
    (claim,) = of_kind(render("local"), "PersistentVolumeClaim")
    assert claim["metadata"]["name"] == SERVED_CLAIM


def test_a_dry_run_shows_the_jobs_without_a_cluster(state, tmp_path, caplog):
    deploy(DEPLOYMENT, tmp_path, skip=ONLY_CLAIMS, dry_run=True)
    assert caplog.text.count("kubectl apply") == 2
    assert not (state / "objects.yaml").exists()


def test_the_job_meets_restricted_and_ends_without_a_sidecar():
    job = build_job("models", replace(DEPLOYMENT, image_pull_secret="key"))
    for version in ("1.30", "1.33"):
        kubernetes_validate.validate(job, version, strict=True)
    pod = job["spec"]["template"]
    assert violations(pod["spec"]) == project_violations(pod["spec"]) == []
    assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
    assert pod["spec"]["imagePullSecrets"] == [{"name": "key"}]
    assert len(build_job("m" * 253, DEPLOYMENT)["metadata"]["name"]) == 63


def test_the_job_runs_as_the_user_and_group_of_the_images():
    """What it can write, the steps can: fsGroup adds no group that they lack."""
    context = build_job("models", DEPLOYMENT)["spec"]["template"]["spec"]["securityContext"]
    dockerfile = (Path(__file__).parents[2] / "images" / "Dockerfile").read_text()
    assert f"\nUSER {context['runAsUser']}:{context['runAsGroup']}\n" in dockerfile
    assert context["fsGroup"] == context["runAsGroup"]


@pytest.mark.skipif(os.geteuid() != 0, reason="changes owners")
def test_the_job_proves_that_the_volume_is_writable():
    """The owner and mode that the kubelet sets: pkg/volume/volume_linux.go, changeFilePermission."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's folders are closed to other users
        Path(folder).chmod(0o755)
        prove_that_the_volume_is_writable(Path(folder))


def prove_that_the_volume_is_writable(folder):
    volume = folder / "volume"
    volume.mkdir(mode=0o755)

    def run_job():
        command = build_job("models", DEPLOYMENT)["spec"]["template"]["spec"]["containers"][0]["command"]
        command[command.index("/volume")] = str(volume)
        return subprocess.run(
            command, capture_output=True, text=True, check=False, user=USER, group=USER, extra_groups=[], cwd="/"
        )

    fresh = run_job()
    assert fresh.returncode == 1
    (line,) = fresh.stdout.splitlines()
    assert line.startswith("claim models: user 10001:10001 cannot write the volume (0:0, mode 755)")
    os.chown(volume, -1, USER)
    volume.chmod(0o755 | 0o2770)
    assert run_job().returncode == run_job().returncode == 0
    assert list(volume.iterdir()) == []
    file = volume / "1"
    file.mkdir()
    assert file.stat().st_gid == USER  # setgid
