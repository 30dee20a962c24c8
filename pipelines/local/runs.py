"""Whole runs on this machine: each gets a folder with its artifacts, reports, log and summary."""

import contextlib
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest import mock

from kfp import local
from kfp.local import subprocess_task_handler

from components.check_parameters.check import check_parameters
from components.ct.cases import read_cases, read_skipped
from components.evaluate.verdict import read_verdict
from components.runtime.child_process import start_child
from components.runtime.errors import InputError
from components.runtime.files import atomic_write, check_folder_writable
from components.storage.gcs_uri import is_gcs_uri
from components.summarize_folds.fold_scores import TABLE_FILE
from pipelines import PipelineName, RunnerName
from pipelines.local.console import capture_output
from pipelines.local.containers import READABLE, WRITABLE, container_runner, engine_calls, unfinished_steps
from pipelines.local.processes import RunningSteps
from pipelines.parameters import PIPELINES, default_parameters
from serving.client.summary import SUMMARY_FILE, read_summary
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
        runs: folder of all runs. This run gets a folder named by the time, and the link `latest` once it is complete;
            `latest-model` links to the newest local folder of versions.
        parameters: the pipeline's parameters; training's `model_base` defaults to a folder of the run.
        runner: where the steps run.

    Returns:
        The summary, as written to `summary.json` in the run's folder; a run that fails or is interrupted has one too.

    Raises:
        InputError: parameters are invalid, with a line for each finding; or a step fails, and the message names it.
        KeyboardInterrupt: SIGINT, SIGTERM or SIGHUP arrived, its argument is the number; no step is running anymore.
    """
    given = {"source": "", **default_parameters(name), **parameters}
    arguments = {key: _resolve_path(value) if key in WRITABLE + READABLE else value for key, value in given.items()}
    check_parameters(arguments)
    check_folder_writable(runs)
    run = _create_run(runs)
    if name == "training":
        arguments.setdefault("model_base", str(run / "models" / arguments["model_name"]))
    summary: Summary = {"status": "failed", "source": arguments["source"]}
    seconds: dict[str, float] = {}
    try:
        with tempfile.TemporaryDirectory(prefix="lung-ct-") as temporary:
            running = RunningSteps(temporary)
            with running.end_on_signal():
                steps = _run_steps(name, run, arguments, runner, running, seconds)
                match name:
                    case "training":
                        summary |= _summarize_training(run, steps, arguments["model_name"], seconds)
                    case "cross-validation":
                        summary |= _summarize_cross_validation(run, steps)
                    case "batch-prediction":
                        summary |= _summarize_batch_prediction(run, steps)
        summary["status"] = "complete"
    except InputError as error:
        summary["error"] = str(error)
        if version := _published_version(run):
            summary["model_version_dir"] = version
            raise InputError(f"{error}; version {version} is published") from error
        raise
    except KeyboardInterrupt:
        version = _published_version(run)
        summary |= {"status": "interrupted", "model_version_dir": version}
        published = f"version {version} is published" if version else "no version was published"
        print(f"interrupted: {published}; {run} keeps the finished steps", file=sys.stderr)
        raise
    finally:
        summary["left_out"] = _left_out(run)
        with atomic_write(run / "summary.json") as temporary_file:
            temporary_file.write_text(json.dumps(summary | {"seconds": seconds}, indent=2) + "\n")
    _link(runs / "latest", run.name)
    if (version := summary.get("model_version_dir")) and not is_gcs_uri(version):
        _link(runs / "latest-model", str(Path(version).parent))
    return {**summary, "seconds": seconds, "summary": str(run / "summary.json")}


def _left_out(run: Path) -> list[str]:
    """The cases and files that ingest and validate left out, with the reasons."""
    folders = [folder for step in ("ingest/cases", "validate/accepted") for folder in run.glob(f"artifacts/*/{step}")]
    return [line for folder in folders for line in read_skipped(folder)]


def _summarize_training(run: Path, steps: Path, model_name: str, seconds: dict[str, float]) -> Summary:
    """Summarize the evaluation and the export; segment a test case if the version is local."""
    verdict = read_verdict(steps / "evaluate" / "evaluation" / VERDICT_FILE)
    version = _published_version(run)
    mask = None
    if version is not None and not is_gcs_uri(version):
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
    rows = read_summary(results / SUMMARY_FILE)
    return {
        "masks": str(results / "masks"),
        "table": str(results / SUMMARY_FILE),
        "report": str(gallery),
        "failed_scans": [f"{row['case']}: {row['error']}" for row in rows if row["error"]],
    }


def _create_run(runs: Path) -> Path:
    """Create a folder named by the time."""
    runs.mkdir(parents=True, exist_ok=True)
    name = datetime.now().strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{n}" for n in range(2, 100))):
        run = runs.absolute() / f"{name}{suffix}"
        with contextlib.suppress(FileExistsError):
            run.mkdir()
            break
    _log.info("run %s", run)
    return run


def _link(link: Path, target: str) -> None:
    """Point a link to `target`; leave a folder of that name alone."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        temporary.replace(link)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        _log.warning("%s: not linked to %s (%s)", link, target, error.strerror)


def _run_steps(
    name: PipelineName,
    run: Path,
    arguments: Mapping[str, Any],
    runner: RunnerName,
    running: RunningSteps,
    seconds: dict[str, float],
) -> Path:
    """Run the steps and copy their reports; return the folder of the steps, and add the seconds of each."""
    root = run / "artifacts"
    root.mkdir()
    in_containers = runner == "docker"
    kfp_runner = container_runner(arguments) if in_containers else local.SubprocessRunner(use_venv=False)
    local.init(runner=kfp_runner, pipeline_root=str(root))
    with (
        engine_calls(running) if in_containers else contextlib.nullcontext(),
        mock.patch.object(subprocess_task_handler, "run_local_subprocess", running.run),
        capture_output(run / "run.log", seconds) as steps,
    ):
        error: Exception | None = None
        try:
            PIPELINES[name](**arguments)
        except (RuntimeError, ValueError) as kfp_error:  # kfp raises these if a step exits with an error
            error = kfp_error
    reports = _copy_reports(root, run / "reports")
    unfinished = [step for folder in root.iterdir() for step in unfinished_steps(folder)]
    if error or unfinished:
        step, reason = steps.failure or (unfinished[0] if unfinished else name, None)
        written = f"; reports so far: {', '.join(reports)}" if reports else ""
        raise InputError(f"{step}: {reason or _unexplained(error, run)}{written}") from error
    (pipeline_run,) = root.iterdir()
    return pipeline_run


def _unexplained(error: Exception | None, run: Path) -> str:
    """Describe a failure without an error message of a step."""
    return f"failed without a message{f' ({error})' if error else ''}; its output is above and in {run / 'run.log'}"


def _published_version(run: Path) -> str | None:
    """Location of the version that the run exported, or None."""
    for output in run.glob("artifacts/*/export/executor_output.json"):
        return str(_output_parameters(output.parent)["version_dir"])
    return None


def _resolve_path(value: str) -> str:
    """Expand `~`, as shells do, and make a path absolute, as containers see it; return URIs and sources unchanged."""
    path = os.path.expanduser(value)
    is_path = path and not path.startswith("~") and ":" not in path.partition("/")[0] and path != "zenodo"
    return os.path.abspath(path) if is_path else path


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
    command = [sys.executable, "-m", "pipelines.cli", "predict", str(case.verified_scan(cases)), "-o", str(mask)]
    with (
        server_process(model_base, model_name) as address,
        start_child([*command, "--server", address, "--model", model_name]) as predict,
    ):
        if predict.wait():
            raise InputError(f"predict: {case_id}: the served model returned no mask; its error is above")
