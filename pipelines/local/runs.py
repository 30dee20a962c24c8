"""Whole runs on this machine: a pipeline in kfp's local runner, and what a person wants of it in one place."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from kfp import local

from components.ct.cases import read_cases
from components.evaluate.verdict import read_verdict
from components.runtime.errors import InputError
from components.runtime.files import atomic_write
from pipelines.local.console import following
from pipelines.local.containers import container_runner, translate_engine_errors, unfinished
from pipelines.parameters import PIPELINES, defaults
from serving.server.process import server_process

# Parameters that may name a folder or file of this machine, by what the steps do with it.
_WRITTEN = ("model_base", "cache", "checkpoint_dir")
_READ = ("source", "reference_profile", "pseudonym_key_file", "folds_file", "model", "signing_key_file")
Parameters = Mapping[str, Any]
Summary = dict[str, Any]


def run_training(runs: Path, parameters: Parameters, runner: str = "subprocess") -> Summary:
    """Run the training pipeline, then predict one test case through the exported model.

    Args:
        runs: folder of all runs; this one gets a folder named by the time, and `latest` points at it.
        parameters: the pipeline's parameters; `model_base` defaults to a folder inside the run's.
        runner: where the steps run: "subprocess", or "docker" for containers.

    Returns:
        The summary, as also written to `summary.json` in the run's folder.

    Raises:
        InputError: a step refused its input, or failed; the message names the step.
    """
    run = _new_run(runs)
    arguments = {**defaults("training"), **parameters}
    arguments.setdefault("model_base", str(run / "models" / arguments["model_name"]))
    steps, reports, seconds = _run_pipeline("training", run, arguments, runner)
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
        version = _output_parameters(steps / "export")["version_dir"]
        summary["model_version_dir"] = version
        if not version.startswith("gs://"):
            started = time.monotonic()
            cases, case_id = steps / "ingest" / "cases", verdict.cases[0].case_id
            mask = _predict_held_out(cases, case_id, Path(version), arguments["model_name"], run)
            seconds["predict"] = round(time.monotonic() - started, 1)
            summary["predicted_mask"] = str(mask)
    return _written(run, summary)


def run_cross_validation(runs: Path, parameters: Parameters, runner: str = "subprocess") -> Summary:
    """Run the cross-validation pipeline; arguments, result and errors are those of `run_training`."""
    run = _new_run(runs)
    arguments = {**defaults("cross-validation"), **parameters}
    steps, reports, seconds = _run_pipeline("cross-validation", run, arguments, runner)
    found = _output_parameters(steps / "summarize-folds")
    return _written(
        run,
        {
            "source": arguments["source"],
            "mean_dice": found["mean_dice"],
            "sd_dice": found["sd_dice"],
            "table": str(steps / "summarize-folds" / "table" / "cases.csv"),
            "report": str(reports["summarize-folds"]),
            "seconds": seconds,
        },
    )


def run_batch_prediction(runs: Path, parameters: Parameters, runner: str = "subprocess") -> Summary:
    """Run the batch prediction pipeline; arguments, result and errors are those of `run_training`."""
    if "source" not in parameters:
        raise InputError("source is missing; give SOURCE=<folder of scans>, and MODEL=<model base> or SERVER=host:port")
    run = _new_run(runs)
    arguments = {**defaults("batch-prediction"), **parameters}
    steps, _, seconds = _run_pipeline("batch-prediction", run, arguments, runner)
    results = steps / "collect-predictions" / "results"
    gallery = shutil.copyfile(steps / "collect-predictions" / "gallery", run / "gallery.html")
    return _written(
        run,
        {
            "source": arguments["source"],
            "masks": str(results / "masks"),
            "table": str(results / "summary.csv"),
            "report": str(gallery),
            "seconds": seconds,
        },
    )


RUNS: dict[str, Callable[[Path, Parameters, str], Summary]] = {
    "training": run_training,
    "cross-validation": run_cross_validation,
    "batch-prediction": run_batch_prediction,
}


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
    print(f"run {run}", flush=True)
    return run


def _written(run: Path, summary: Summary) -> Summary:
    with atomic_write(run / "summary.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def _run_pipeline(
    name: str, run: Path, arguments: Parameters, runner: str
) -> tuple[Path, dict[str, Path], dict[str, float]]:
    """Run a pipeline; give the folder of the steps' outputs, their reports by step, and each step's seconds."""
    root = run / "artifacts"
    root.mkdir()
    arguments = {name: _absolute(value) if name in _WRITTEN + _READ else value for name, value in arguments.items()}
    chosen = _container_runner(arguments) if runner == "docker" else local.SubprocessRunner(use_venv=False)
    local.init(runner=chosen, pipeline_root=str(root))
    engine = translate_engine_errors() if runner == "docker" else contextlib.nullcontext()
    with following(run / "run.log") as (console, steps), engine:
        failure: Exception | None = None
        try:
            PIPELINES[name](**arguments)
        except (RuntimeError, ValueError) as error:  # kfp's words for a step that exited non-zero
            failure = error
    reports = _copy_reports(root, run / "reports")
    left = [step for folder in root.iterdir() for step in unfinished(folder)]
    if failure or left:
        reason = console.error or f"left no result; its last words stand above and in {run / 'run.log'}"
        shown = f"; reports so far: {', '.join(map(str, reports.values()))}" if reports else ""
        raise InputError(f"{steps.running or left[0]}: {reason}{shown}") from failure
    (pipeline_run,) = root.iterdir()
    return pipeline_run, reports, steps.seconds


def _absolute(value: str) -> str:
    """A local path as containers see it too; addresses, and what is no path, as they are."""
    return value if not value or "://" in value or not Path(value).exists() else str(Path(value).absolute())


def _container_runner(arguments: Parameters) -> local.DockerRunner:
    """A runner whose containers see the folders that the parameters name, and a network only for what is remote."""
    written, read = (
        [Path(arguments[name]) for name in names if arguments.get(name) and "://" not in arguments[name]]
        for names in (_WRITTEN, _READ)
    )
    remote = any(str(value).startswith(("zenodo", "gs://")) for value in arguments.values())
    return container_runner(
        writable=written,
        readable=[path for path in read if path.exists()],
        network=remote or bool(arguments.get("server")),
    )


def _copy_reports(root: Path, folder: Path) -> dict[str, Path]:
    """Copy the steps' HTML pages, which kfp stores without an ending, to where a browser opens them."""
    folder.mkdir()
    return {
        report.parent.name: Path(shutil.copyfile(report, folder / f"{report.parent.name}.html"))
        for report in sorted(root.glob("*/*/report"))
    }


def _output_parameters(step: Path) -> dict[str, Any]:
    return json.loads((step / "executor_output.json").read_text())["parameterValues"]


def _predict_held_out(cases: Path, case_id: str, version: Path, model_name: str, run: Path) -> Path:
    """Serve the exported version on a free port and send it one test scan over gRPC."""
    (case,) = (case for case in read_cases(cases) if case.case_id == case_id)
    mask = run / "prediction" / f"{case_id}.nii.gz"
    mask.parent.mkdir()
    print(f"── predict\n    {case_id}, through gRPC", flush=True)
    with server_process(version.parent, model_name) as address:
        command = ["predict", str(case.verified_scan(cases)), "-o", str(mask), "--server", address]
        _serving_cli(*command, "--model", model_name)
    return mask


def _serving_cli(*arguments: str) -> None:
    if subprocess.run([sys.executable, "-m", "serving.cli", *arguments]).returncode:
        raise InputError("predict: the served model gave no mask; the message stands above")
