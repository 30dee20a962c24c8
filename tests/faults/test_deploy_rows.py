"""Rows 50 and 51: a deploy that is killed, and manifests that break Pod Security."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

from tests.pipelines.deploy_programs import contents, needs_kubectl
from tests.pipelines.kfp_server import running
from tests.serving_k8s.rendering import K8S, pod_specs
from tests.serving_k8s.restricted import violations


def up(api, build):
    command = [
        sys.executable,
        "-m",
        "pipelines.deploy.deploy",
        "up",
        "--revision",
        "abc",
        "--registry",
        "r.example/lung",
    ]
    options = ["--overlay", "gcs", "--model-base", "gs://b/m", "--host", api.url, "--build", build, "--skip", "compile"]
    return subprocess.Popen([*command, *options], start_new_session=True, stdout=subprocess.DEVNULL)


def eventually(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("it did not come to that within a minute")


@needs_kubectl
@pytest.mark.parametrize("step", ["push", "apply"])
def test_row_50_a_killed_deploy_ends_in_the_same_state_when_repeated(step, state, api, packages):
    (state / "hang").write_text(step)
    killed = up(api, packages)
    eventually((state / "hangs").exists)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    (state / "hangs").unlink()
    assert up(api, packages).wait() == 0
    mended = contents(state, api)
    for path in state.iterdir():
        path.unlink()
    with running() as other:
        assert up(other, packages).wait() == 0
        assert contents(state, other) == mended


CONTAINER = "/spec/template/spec/containers/0"


@needs_kubectl
@pytest.mark.parametrize(
    ("operation", "told"),
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
def test_row_51_a_manifest_that_breaks_restricted_is_found(operation, told, tmp_path):
    overlay = shutil.copytree(K8S, tmp_path / "k8s") / "overlays" / "broken"
    overlay.mkdir()
    patch = {"target": {"kind": "Deployment"}, "patch": yaml.safe_dump([operation])}
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump({"resources": ["../gcs"], "patches": [patch]}))
    done = subprocess.run(["kubectl", "kustomize", overlay], capture_output=True, text=True, check=True)
    (spec,) = pod_specs(tuple(yaml.safe_load_all(done.stdout)))
    assert any(told in line for line in violations(spec))
