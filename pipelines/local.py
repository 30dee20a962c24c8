"""A whole training run on this machine: the pipeline, then one held-out scan through the served model."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from kfp import local

from components.ct.atomic import written_whole
from components.ct.cases import read_cases
from components.ct.errors import InputError
from components.evaluate.verdict import read_verdict
from pipelines.console import following
from pipelines.training import training

_SERVER_STOP_S = 20


def run_training(runs: Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Run the training pipeline in subprocesses, then predict one test case through the exported model.

    Args:
        runs: folder of all runs; this one gets a folder named by the time, and `latest` points at it.
        parameters: the pipeline's parameters; `model_base` defaults to a folder inside the run's.

    Returns:
        The summary, as also written to `summary.json` in the run's folder.

    Raises:
        InputError: a step refused its input, or failed; the message names the step.
    """
    run = _new_run(runs)
    defaults = {name: spec.default for name, spec in training.component_spec.inputs.items() if spec.optional}
    arguments = {**defaults, **parameters}
    arguments.setdefault("model_base", str(run / "models" / arguments["model_name"]))
    print(f"run {run}", flush=True)
    steps, seconds = _run_pipeline(run, arguments)
    reports = _copy_reports(steps, run / "reports")
    verdict = read_verdict(steps / "evaluate" / "evaluation" / "verdict.json")
    summary = {
        "source": arguments["source"],
        "test_dice": verdict.test_dice,
        "verdict": verdict.verdict,
        "reasons": list(verdict.reasons),
        "model_version_dir": None,
        "report": str(reports["evaluate"]),
        "predicted_mask": None,
        "seconds": seconds,
    }
    if verdict.passed:
        version = Path(_output_parameters(steps / "export")["version_dir"])
        started = time.monotonic()
        mask = _predict_held_out(
            steps / "ingest" / "cases", verdict.cases[0].case_id, version, arguments["model_name"], run
        )
        seconds["predict"] = round(time.monotonic() - started, 1)
        summary |= {"model_version_dir": str(version), "predicted_mask": str(mask)}
    with written_whole(run / "summary.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def _new_run(runs: Path) -> Path:
    """Make a folder named by the time, and point `latest` at it."""
    runs.mkdir(parents=True, exist_ok=True)
    started = datetime.now().strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{n}" for n in range(2, 100))):
        run = runs.absolute() / f"{started}{suffix}"
        with contextlib.suppress(FileExistsError):
            run.mkdir()
            break
    link = runs / f".latest.{os.getpid()}"
    link.symlink_to(run.name)
    link.replace(runs / "latest")
    return run


def _run_pipeline(run: Path, arguments: Mapping[str, Any]) -> tuple[Path, dict[str, float]]:
    """Run the pipeline; give the folder of the steps' outputs and each step's seconds."""
    root = run / "artifacts"
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(root))
    with following(run / "run.log") as (console, steps):
        try:
            training(**arguments)
        except RuntimeError as error:  # kfp's word for a step that exited non-zero
            reason = (
                console.error or f"failed for a reason of its own; its last words stand above and in {run / 'run.log'}"
            )
            raise InputError(f"{steps.running}: {reason}") from error
    (pipeline_run,) = root.iterdir()
    return pipeline_run, steps.seconds


def _copy_reports(steps: Path, folder: Path) -> dict[str, Path]:
    """Copy the steps' HTML pages, which kfp stores without an ending, to where a browser opens them."""
    folder.mkdir()
    return {
        report.parent.name: Path(shutil.copyfile(report, folder / f"{report.parent.name}.html"))
        for report in sorted(steps.glob("*/report"))
    }


def _output_parameters(step: Path) -> dict[str, Any]:
    return json.loads((step / "executor_output.json").read_text())["parameterValues"]


def _predict_held_out(cases: Path, case_id: str, version: Path, model_name: str, run: Path) -> Path:
    """Serve the exported version on a free port and send it one test scan over gRPC."""
    (case,) = (case for case in read_cases(cases) if case.case_id == case_id)
    mask = run / "prediction" / f"{case_id}.nii.gz"
    mask.parent.mkdir()
    print(f"── predict\n    {case_id}, through gRPC", flush=True)
    with _server(version.parent, model_name) as address:
        command = ["predict", str(case.verified_scan(cases)), "-o", str(mask), "--server", address]
        _serving_cli(*command, "--model", model_name)
    return mask


@contextlib.contextmanager
def _server(model_base: Path, model_name: str) -> Iterator[str]:
    """Run the embedded server as a process of its own; yield its address."""
    command = [sys.executable, "-m", "serving.cli", "serve", "--model-base", str(model_base), "--model", model_name]
    with subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            # Versions that cannot be loaded are told of first; the address stands at the end of the ready line.
            ready = next((line for line in server.stdout if line.startswith("serving ")), None)
            if ready is None:
                raise InputError(f"{model_base}: the embedded server did not start; its message stands above")
            yield ready.split()[-1]
        finally:
            server.terminate()
            server.wait(_SERVER_STOP_S)


def _serving_cli(*arguments: str) -> None:
    if subprocess.run([sys.executable, "-m", "serving.cli", *arguments]).returncode:
        raise InputError("predict: the served model gave no mask; the message stands above")
