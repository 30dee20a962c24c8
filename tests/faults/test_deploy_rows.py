"""Rows 50 and 51: a killed deploy, and manifests that violate Pod Security."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

from tests.pipelines.deploy_programs import recorded_state
from tests.pipelines.kfp_server import run_kfp_server
from tests.serving_k8s.rendering import K8S, pod_specs
from tests.serving_k8s.restricted import violations


def start_deploy(api, build):
    command = [sys.executable, "-m", "pipelines.cli", "deploy", "--revision", "abc", "--registry", "r.example/lung"]
    options = ["--overlay", "gcs", "--model-base", "gs://b/m", "--host", api.url, "--build", build, "--skip", "compile"]
    return subprocess.Popen([*command, *options], start_new_session=True, stdout=subprocess.DEVNULL)


def wait_for(path):
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.1)
    pytest.fail(f"{path} does not exist after a minute")


@pytest.mark.parametrize("step", ["push", "apply"])
def test_row_50_repeating_a_killed_deploy_completes_it(step, state, api, packages):
    (state / "hang").write_text(step)
    killed = start_deploy(api, packages)
    wait_for(state / "hangs")
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    (state / "hangs").unlink()
    assert start_deploy(api, packages).wait() == 0
    completed = recorded_state(state, api)
    for path in state.iterdir():
        path.unlink()
    with run_kfp_server() as other:
        assert start_deploy(other, packages).wait() == 0
        assert recorded_state(state, other) == completed


CONTAINER = "/spec/template/spec/containers/0"


@pytest.mark.parametrize(
    ("operation", "violation"),
    [
        ({"op": "add", "path": f"{CONTAINER}/securityContext/privileged", "value": True}, "is privileged"),
        ({"op": "remove", "path": f"{CONTAINER}/securityContext/capabilities"}, "keeps capabilities"),
        ({"op": "remove", "path": f"{CONTAINER}/securityContext/allowPrivilegeEscalation"}, "may escalate privileges"),
        ({"op": "remove", "path": "/spec/template/spec/securityContext/runAsNonRoot"}, "runAsNonRoot is not true"),
        ({"op": "remove", "path": "/spec/template/spec/securityContext/seccompProfile"}, "is not RuntimeDefault"),
        (
            {
                "op": "add",
                "path": "/spec/template/spec/volumes/-",
                "value": {"name": "node", "hostPath": {"path": "/"}},
            },
            "volume node is a hostPath",
        ),
    ],
)
def test_row_51_a_manifest_that_violates_restricted_is_found(operation, violation, tmp_path):
    overlay = shutil.copytree(K8S, tmp_path / "k8s") / "overlays" / "broken"
    overlay.mkdir()
    patch = {"target": {"kind": "Deployment"}, "patch": yaml.safe_dump([operation])}
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump({"resources": ["../gcs"], "patches": [patch]}))
    done = subprocess.run(["kubectl", "kustomize", overlay], capture_output=True, text=True, check=True)
    (spec,) = pod_specs(tuple(yaml.safe_load_all(done.stdout)))
    assert any(violation in line for line in violations(spec))
