"""The stand-in for Kubeflow's backend is as strict as its driver, where kfp's local runner is not."""

import time
from typing import List  # noqa: UP035 - kfp reads no other spelling

import pytest
import yaml
from kfp import compiler, dsl

from tests.pipelines.backend import Backend


@dsl.component(base_image="python", install_kfp_package=False)
def plain_numbers() -> list:
    return [3, 1, 2]


@dsl.component(base_image="python", install_kfp_package=False)
def typed_numbers() -> List[int]:  # noqa: UP006
    return [3, 1, 2]


@dsl.component(base_image="python", install_kfp_package=False)
def double(number: int) -> int:
    return 2 * number


@dsl.component(base_image="python", install_kfp_package=False)
def require_order(numbers: List[int]) -> None:  # noqa: UP006
    assert numbers == [6, 2, 4]


@dsl.component(base_image="python", install_kfp_package=False)
def end_with(status: int) -> None:
    import sys

    sys.exit(status)


def looping(source):
    @dsl.pipeline(name="looping")
    def build():
        with dsl.ParallelFor(source().output) as number:
            doubled = double(number=number)
        require_order(numbers=dsl.Collected(doubled.output))

    return build


@dsl.pipeline(name="branching")
def branching(number: int = 3):
    doubled = double(number=number)
    with dsl.If(doubled.output == 6):
        end_with(status=0)
    with dsl.Else():
        end_with(status=1)


@dsl.pipeline(name="failing")
def failing():
    end_with(status=1).set_retry(2, backoff_duration="30s", backoff_factor=2, backoff_max_duration="80s")


@pytest.fixture
def execute(tmp_path):
    """A function that runs a pipeline; returns its state, the phases of nodes by name, and the log."""

    def run(pipeline, **settings):
        compiler.Compiler().compile(pipeline, str(tmp_path / "package.yaml"))
        backend = Backend(tmp_path / "store", **settings)
        record = {"run_id": "run-1"}
        backend.start(record, yaml.safe_load((tmp_path / "package.yaml").read_text()))
        while record["state"] in ("PENDING", "RUNNING"):
            time.sleep(0.05)
        phases = {n["name"].partition(".root.")[2]: n["phase"] for n in nodes(backend)}
        return record["state"], phases, backend.log

    return run


def nodes(backend):
    return backend.workflows["run-1"]["status"]["nodes"].values()


def test_the_items_of_a_plain_list_are_strings_to_the_driver(execute):
    state, _, log = execute(looping(plain_numbers))
    assert state == "FAILED"
    assert log == ['double-driver: input parameter "number" type mismatch: expect NUMBER_INTEGER, got string'] * 3


def test_outputs_of_a_loop_are_collected_in_the_order_of_its_items(execute):
    assert execute(looping(typed_numbers))[0] == "SUCCEEDED"


def test_one_branch_runs(execute):
    state, phases, _ = execute(branching)
    assert state == "SUCCEEDED"
    assert phases["condition-branches-1.condition-2"] == "Succeeded"
    assert phases["condition-branches-1.condition-3"] == "Skipped"


@pytest.mark.parametrize(("policy", "attempts"), [("Always", 2), ("OnFailure", 2), ("OnError", 1)])
def test_retries_depend_on_the_policy_and_end_with_their_window(execute, policy, attempts):
    state, phases, _ = execute(failing, retry_policy=policy)
    assert state == "FAILED"
    # 30 s and 60 s of backoff: a third attempt would start after the window of 80 s.
    pods = [name for name in phases if name.startswith("end-with.executor(")]
    assert len(pods) == attempts
