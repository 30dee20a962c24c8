"""Whole runs on this machine: each gets a folder with its artifacts, reports, log and summary."""

import contextlib
import json
import logging
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
from pipelines import PipelineName, RunnerName
from pipelines.local.console import capture_output
from pipelines.local.containers import container_runner, translate_engine_errors, unfinished_steps
from pipelines.parameters import PIPELINES, default_parameters
from serving.server.process import server_process

# Parameters that may name local folders or files, which containers mount writable or read-only.
_WRITABLE = ("model_base", "cache", "checkpoint_dir")
_READABLE = ("source", "reference_profile", "pseudonym_key_file", "folds_file", "model", "signing_key_file")
_log = logging.getLogger(__name__)
Parameters = Mapping[str, Any]
Summary = dict[str, Any]


def run_training(runs: Path, parameters: Parameters, runner: RunnerName = "subprocess") -> Summary:
    """Run the training pipeline, then segment one test scan with the exported version through a server.

    Args:
        runs: folder of all runs; this run gets a folder named by the time, and the link `latest`.
        parameters: the pipeline's parameters; `model_base` defaults to a folder of the run.
        runner: where the steps run.

    Returns:
        The summary, as written to `summary.json` in the run's folder.

    Raises:
        InputError: a step rejects its input or fails; the message names the step.
    """
    run = _create_run(runs)
    arguments = {**default_parameters("training"), **parameters}
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
            start = time.monotonic()
            case_id, model_base = verdict.cases[0].case_id, Path(version).parent
            mask = _predict_test_case(steps / "ingest" / "cases", case_id, model_base, arguments["model_name"], run)
            seconds["predict"] = round(time.monotonic() - start, 1)
            summary["predicted_mask"] = str(mask)
    return _write_summary(run, summary)


def run_cross_validation(runs: Path, parameters: Parameters, runner: RunnerName = "subprocess") -> Summary:
    """Run the cross-validation pipeline; arguments, result and errors are those of `run_training`."""
    run = _create_run(runs)
    arguments = {**default_parameters("cross-validation"), **parameters}
    steps, reports, seconds = _run_pipeline("cross-validation", run, arguments, runner)
    scores = _output_parameters(steps / "summarize-folds")
    summary = {
        "source": arguments["source"],
        "mean_dice": scores["mean_dice"],
        "sd_dice": scores["sd_dice"],
        "table": str(steps / "summarize-folds" / "table" / "cases.csv"),
        "report": str(reports["summarize-folds"]),
        "seconds": seconds,
    }
    return _write_summary(run, summary)


def run_batch_prediction(runs: Path, parameters: Parameters, runner: RunnerName = "subprocess") -> Summary:
    """Run the batch prediction pipeline; arguments, result and errors are those of `run_training`."""
    if "source" not in parameters:
        raise InputError("source is missing; set SOURCE=<folder of scans>, and MODEL=<model base> or SERVER=host:port")
    run = _create_run(runs)
    arguments = {**default_parameters("batch-prediction"), **parameters}
    steps, _, seconds = _run_pipeline("batch-prediction", run, arguments, runner)
    results = steps / "collect-predictions" / "results"
    gallery = shutil.copyfile(steps / "collect-predictions" / "gallery", run / "gallery.html")
    summary = {
        "source": arguments["source"],
        "masks": str(results / "masks"),
        "table": str(results / "summary.csv"),
        "report": str(gallery),
        "seconds": seconds,
    }
    return _write_summary(run, summary)


RUNS: dict[PipelineName, Callable[[Path, Parameters, RunnerName], Summary]] = {
    "training": run_training,
    "cross-validation": run_cross_validation,
    "batch-prediction": run_batch_prediction,
}


def _create_run(runs: Path) -> Path:
    """Create a folder named by the time, and point `latest` to it."""
    runs.mkdir(parents=True, exist_ok=True)
    name = datetime.now().strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{n}" for n in range(2, 100))):
        run = runs.absolute() / f"{name}{suffix}"
        with contextlib.suppress(FileExistsError):
            run.mkdir()
            break
    link = runs / f".latest.{os.getpid()}"
    link.symlink_to(run.name)
    link.replace(runs / "latest")
    _log.info("run %s", run)
    return run


def _write_summary(run: Path, summary: Summary) -> Summary:
    with atomic_write(run / "summary.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def _run_pipeline(
    name: PipelineName, run: Path, arguments: Parameters, runner: RunnerName
) -> tuple[Path, dict[str, Path], dict[str, float]]:
    """Run a pipeline; return the folder of its steps, their reports by step, and the seconds of each step."""
    root = run / "artifacts"
    root.mkdir()
    arguments = {
        key: _absolute_path(value) if key in _WRITABLE + _READABLE else value for key, value in arguments.items()
    }
    in_containers = runner == "docker"
    kfp_runner = _container_runner(arguments) if in_containers else local.SubprocessRunner(use_venv=False)
    local.init(runner=kfp_runner, pipeline_root=str(root))
    engine_errors = translate_engine_errors() if in_containers else contextlib.nullcontext()
    with capture_output(run / "run.log") as (console, steps), engine_errors:
        failure: Exception | None = None
        try:
            PIPELINES[name](**arguments)
        except (RuntimeError, ValueError) as error:  # kfp raises these if a step exits with an error
            failure = error
    reports = _copy_reports(root, run / "reports")
    unfinished = [step for folder in root.iterdir() for step in unfinished_steps(folder)]
    if failure or unfinished:
        reason = console.error or f"left no result; its output is above and in {run / 'run.log'}"
        written = f"; reports so far: {', '.join(map(str, reports.values()))}" if reports else ""
        raise InputError(f"{steps.current or unfinished[0]}: {reason}{written}") from failure
    (pipeline_run,) = root.iterdir()
    return pipeline_run, reports, steps.seconds


def _absolute_path(value: str) -> str:
    """Make an existing path absolute, as containers see it; return other values unchanged."""
    return value if not value or "://" in value or not Path(value).exists() else str(Path(value).absolute())


def _container_runner(arguments: Parameters) -> local.DockerRunner:
    """Create a runner whose containers see the arguments' folders, and the network only for remote sources."""
    writable, readable = (
        [Path(arguments[name]) for name in names if arguments.get(name) and "://" not in arguments[name]]
        for names in (_WRITABLE, _READABLE)
    )
    is_remote = any(str(value).startswith(("zenodo", "gs://")) for value in arguments.values())
    return container_runner(
        writable=writable,
        readable=[path for path in readable if path.exists()],
        network=is_remote or bool(arguments.get("server")),
    )


def _copy_reports(root: Path, folder: Path) -> dict[str, Path]:
    """Copy the steps' HTML reports, which kfp stores without a suffix, to files a browser opens."""
    folder.mkdir()
    return {
        report.parent.name: Path(shutil.copyfile(report, folder / f"{report.parent.name}.html"))
        for report in sorted(root.glob("*/*/report"))
    }


def _output_parameters(step: Path) -> dict[str, Any]:
    return json.loads((step / "executor_output.json").read_text())["parameterValues"]


def _predict_test_case(cases: Path, case_id: str, model_base: Path, model_name: str, run: Path) -> Path:
    """Serve the model on a free port, segment a test scan over gRPC and return its mask."""
    (case,) = (case for case in read_cases(cases) if case.case_id == case_id)
    mask = run / "prediction" / f"{case_id}.nii.gz"
    mask.parent.mkdir()
    _log.info("── predict\n    %s, over gRPC", case_id)
    with server_process(model_base, model_name) as address:
        command = [sys.executable, "-m", "pipelines.cli", "predict", str(case.verified_scan(cases)), "-o", str(mask)]
        if subprocess.run([*command, "--server", address, "--model", model_name]).returncode:
            raise InputError(f"predict: {case_id}: the served model returned no mask; its error is above")
    return mask
