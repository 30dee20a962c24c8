"""`lung-ct predict`: segment a scan, or a folder of scans, with a served model."""

import argparse
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from components.runtime.errors import InputError
from serving.arguments import add_model, add_tls, milliliters, seconds, version


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "predict",
        help="segment scans with a served model",
        description="Send chest CT scans to a server with TF Serving's gRPC API, and write the lesion masks as NIfTI "
        "with each scan's own shape and affine.",
    )
    parser.set_defaults(run=_predict)
    add = parser.add_argument
    optional = {"nargs": "?", "const": True}  # with or without a value
    add("scan", type=Path, metavar="SCAN", help="NIfTI file in HU or 8-bit, DICOM series folder, or folder of scans")
    add("-o", "--output", type=Path, required=True, metavar="MASK", help="mask to write, or a folder for many scans")
    add("--probability", **optional, metavar="FILE", help="also write the lesion probability; FILE for a single scan")
    add("--preview", **optional, metavar="PNG", help="also draw the slice with most lesion; PNG for a single scan")
    add("--dicom-seg", **optional, metavar="DCM", help="also write DICOM SEG, for DICOM input (needs the extra `seg`)")
    add("--min-lesion-ml", type=milliliters, default=0.0, metavar="ML", help="remove smaller lesions (default: none)")
    add("--force", action="store_true", help="overwrite existing outputs")
    add("--server", required=True, metavar="HOST:PORT", help="gRPC address of the server")
    add_model(parser)
    selection = parser.add_mutually_exclusive_group()
    selection.add_argument("--version", type=version, metavar="N", help="model version (default: the newest)")
    selection.add_argument("--label", help="version label, such as stable")
    add("--timeout", type=seconds, default=60.0, metavar="SECONDS", help="limit per request (default: %(default)g)")
    add("--proxy", action="store_true", help="connect through the proxy of the environment, such as https_proxy")
    add_tls(parser)


def _predict(arguments: argparse.Namespace) -> None:
    from components.ct.scan_folder import is_dicom_series, is_nifti_name

    # A file name for the mask asks for one scan: the series in the folder, also nested as on a CD.
    is_one_scan = is_nifti_name(arguments.output.name) and not arguments.output.is_dir()
    if arguments.scan.is_dir() and not is_dicom_series(arguments.scan) and not is_one_scan:
        _predict_folder(arguments)
    else:
        _predict_scan(arguments)


def _predict_scan(arguments: argparse.Namespace) -> None:
    from components.ct.intensity import WINDOW_HU, Intensity
    from serving.client.scans import OutputFiles, ScanTask, check_outputs, segment_scan

    outputs = OutputFiles(
        mask=arguments.output,
        probability=_path(arguments.probability, "--probability"),
        preview=_path(arguments.preview, "--preview"),
        segmentation=_path(arguments.dicom_seg, "--dicom-seg"),
    )
    task = ScanTask(arguments.scan.name, arguments.scan, outputs)
    check_outputs([task], arguments.force)
    with _client(arguments) as client:
        row = segment_scan(client.predict, task, arguments.min_lesion_ml)
    if row.intensity == Intensity.WINDOWED:
        print(f"note: the scan is 8-bit; its values were read as HU from {WINDOW_HU[0]:g} to {WINDOW_HU[1]:g}")
    if row.notes:
        print(f"note: {row.notes}")
    version = "" if row.model_version is None else f" version {row.model_version}"
    print(f"{arguments.output}: {row}, by {arguments.model}{version}")


def _predict_folder(arguments: argparse.Namespace) -> None:
    from tqdm import tqdm

    from components.runtime.files import check_writable
    from serving.client import scans
    from serving.client.summary import SUMMARY_FILE, write_summary

    options = {"probability": arguments.probability, "preview": arguments.preview, "segmentation": arguments.dicom_seg}
    for value in options.values():
        if isinstance(value, str):
            raise InputError(f"{value}: for a folder of scans give the option without a name; each case gets a file")
    if os.path.isfile(arguments.output):  # False for a name that is too long
        raise InputError(f"{arguments.output}: is a file; expected a folder, as the input is a folder of scans")
    kinds = [kind for kind, value in options.items() if value]
    tasks = [
        scans.ScanTask(case, scan, scans.OutputFiles.in_folder(arguments.output, case, *kinds))
        for case, scan in scans.scans_by_case(arguments.scan).items()
    ]
    summary = arguments.output / SUMMARY_FILE
    check_writable(summary)
    scans.check_outputs(tasks, arguments.force, summary)
    rows = []
    with _client(arguments) as client:
        results = scans.segment_scans(client.predict, tasks, arguments.min_lesion_ml)
        for row in tqdm(results, total=len(tasks), disable=None):  # None: a bar on a terminal only
            rows.append(row)
            tqdm.write(f"{row.case}: {row}{f' (note: {row.notes})' if row.notes else ''}")
            with suppress(InputError):  # a full disk, which may have room later; the last write reports it
                write_summary(summary, rows)
    write_summary(summary, rows)
    failed = [row.case for row in rows if row.error]
    print(f"{summary}: {len(rows) - len(failed)} of {len(rows)} scans segmented")
    if failed:
        raise InputError(f"{len(failed)} of {len(rows)} scans failed: {', '.join(failed)}; see {summary}")


def _client(arguments: argparse.Namespace) -> Any:
    from serving.client import SegmentationClient
    from serving.tls import ClientTls

    return SegmentationClient(
        arguments.server,
        arguments.model,
        version=arguments.version,
        version_label=arguments.label,
        timeout_s=arguments.timeout,
        tls=ClientTls.from_arguments(arguments),
        proxy=arguments.proxy,
    )


def _path(value: str | bool | None, option: str) -> Path | None:
    if value is True:
        raise InputError(f"{option}: expected a file name, as the input is a single scan")
    return Path(value) if isinstance(value, str) else None
