"""Whole runs on this machine: each gets a folder with its artifacts, reports, log and summary."""

import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from kfp import local

from components.ct.cases import read_cases
from components.evaluate.verdict import read_verdict
from components.runtime.errors import InputError
from components.runtime.files import atomic_write
from components.summarize_folds.fold_scores import TABLE_FILE
from pipelines import PipelineName, RunnerName
from pipelines.local.console import capture_output
from pipelines.local.containers import READABLE, WRITABLE, container_runner, translate_engine_errors, unfinished_steps
from pipelines.parameters import PIPELINES, default_parameters
from serving.client.scans import SUMMARY_FILE
from serving.server.process import server_process
from serving.versions.layout import VERDICT_FILE

_log = logging.getLogger(__name__)
Summary = dict[str, Any]


def run_pipeline(
    name: PipelineName, runs: Path, parameters: Mapping[str, Any], runner: RunnerName = "subprocess"
) -> Summary:
    """Run a pipeline. After training, segment one test case with the exported version through a server.

    Args:
        name: the pipeline.
        runs: folder of all runs; this run gets a folder named by the time, and the link `latest`.
        parameters: the pipeline's parameters; training's `model_base` defaults to a folder of the run.
        runner: where the steps run.

    Returns:
        The summary, as written to `summary.json` in the run's folder.

    Raises:
        InputError: a step rejects its input or fails; the message names the step.
    """
    arguments = {**default_parameters(name), **parameters}
    if "source" not in arguments:
        raise InputError("source is missing; set SOURCE=<folder of scans>, and MODEL=<model base> or SERVER=host:port")
    run = _create_run(runs)
    if name == "training":
        arguments.setdefault("model_base", str(run / "models" / arguments["model_name"]))
    steps, seconds = _run_steps(name, run, arguments, runner)
    summary: Summary = {"source": arguments["source"]}
    match name:
        case "training":
            summary |= _summarize_training(run, steps, arguments["model_name"], seconds)
        case "cross-validation":
            summary |= _summarize_cross_validation(run, steps)
        case "batch-prediction":
            summary |= _summarize_batch_prediction(run, steps)
    summary["seconds"] = seconds
    with atomic_write(run / "summary.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def _summarize_training(run: Path, steps: Path, model_name: str, seconds: dict[str, float]) -> Summary:
    """Summarize the evaluation and the export; segment a test case if the version is local."""
    verdict = read_verdict(steps / "evaluate" / "evaluation" / VERDICT_FILE)
    version = _output_parameters(steps / "export")["version_dir"] if verdict.passed else None
    mask = None
    if version is not None and not version.startswith("gs://"):
        start = time.monotonic()
        mask = run / "prediction" / f"{verdict.cases[0].case_id}.nii.gz"
        _predict_test_case(steps / "ingest" / "cases", verdict.cases[0].case_id, mask, Path(version).parent, model_name)
        seconds["predict"] = round(time.monotonic() - start, 1)
    return {
        "test_dice": verdict.test_dice,
        "verdict": verdict.verdict,
        "reasons": list(verdict.reasons),
        "model_version_dir": version,
        "report": str(run / "reports" / "evaluate.html"),
        "predicted_mask": None if mask is None else str(mask),
    }


def _summarize_cross_validation(run: Path, steps: Path) -> Summary:
    scores = _output_parameters(steps / "summarize-folds")
    return {
        "mean_dice": scores["mean_dice"],
        "sd_dice": scores["sd_dice"],
        "table": str(steps / "summarize-folds" / "table" / TABLE_FILE),
        "report": str(run / "reports" / "summarize-folds.html"),
    }


def _summarize_batch_prediction(run: Path, steps: Path) -> Summary:
    results = steps / "collect-predictions" / "results"
    gallery = shutil.copyfile(steps / "collect-predictions" / "gallery", run / "gallery.html")
    return {"masks": str(results / "masks"), "table": str(results / SUMMARY_FILE), "report": str(gallery)}


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


def _run_steps(
    name: PipelineName, run: Path, arguments: Mapping[str, Any], runner: RunnerName
) -> tuple[Path, dict[str, float]]:
    """Run the steps and copy their reports; return the folder of the steps, and the seconds of each."""
    root = run / "artifacts"
    root.mkdir()
    paths = WRITABLE + READABLE
    arguments = {key: _absolute_path(value) if key in paths else value for key, value in arguments.items()}
    in_containers = runner == "docker"
    kfp_runner = container_runner(arguments) if in_containers else local.SubprocessRunner(use_venv=False)
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
        written = f"; reports so far: {', '.join(reports)}" if reports else ""
        raise InputError(f"{steps.current or unfinished[0]}: {reason}{written}") from failure
    (pipeline_run,) = root.iterdir()
    return pipeline_run, steps.seconds


def _absolute_path(value: str) -> str:
    """Make an existing path absolute, as containers see it; return other values unchanged."""
    return value if not value or "://" in value or not Path(value).exists() else str(Path(value).absolute())


def _copy_reports(root: Path, folder: Path) -> list[str]:
    """Copy the steps' HTML reports, which kfp stores without a suffix, to files a browser opens."""
    folder.mkdir()
    reports = sorted(root.glob("*/*/report"))
    return [str(shutil.copyfile(report, folder / f"{report.parent.name}.html")) for report in reports]


def _output_parameters(step: Path) -> dict[str, Any]:
    return json.loads((step / "executor_output.json").read_text())["parameterValues"]


def _predict_test_case(cases: Path, case_id: str, mask: Path, model_base: Path, model_name: str) -> None:
    """Serve the model on a free port, segment a test case over gRPC and write its mask."""
    (case,) = (case for case in read_cases(cases) if case.case_id == case_id)
    mask.parent.mkdir()
    _log.info("── predict\n    %s, over gRPC", case_id)
    with server_process(model_base, model_name) as address:
        command = [sys.executable, "-m", "pipelines.cli", "predict", str(case.verified_scan(cases)), "-o", str(mask)]
        if subprocess.run([*command, "--server", address, "--model", model_name]).returncode:
            raise InputError(f"predict: {case_id}: the served model returned no mask; its error is above")
