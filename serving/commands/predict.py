"""`predict`: a scan, or a folder of them, to masks."""

import argparse
from pathlib import Path
from typing import Any

from components.ct.intensity import WINDOW_HU, Intensity
from components.runtime.errors import InputError
from serving.arguments import add_model, milliliters, seconds, version


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    predict = commands.add_parser(
        "predict",
        help="segment scans with a served model",
        description="Send chest CTs to a server that speaks TF Serving's gRPC API and write the lesion masks "
        "as NIfTI, with each scan's own shape and affine.",
    )
    predict.set_defaults(run=_predict)
    predict.add_argument(
        "scan",
        type=Path,
        metavar="SCAN",
        help="the CT: .nii or .nii.gz in HU or 8-bit windowed, a folder with a DICOM series, or a folder of scans",
    )
    predict.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="MASK",
        help="the mask to write: 1 lesion, 0 none; for a folder of scans, the folder to write masks and summary.csv to",
    )
    _add_outputs(predict)
    _add_server(predict)


def _add_outputs(predict: argparse.ArgumentParser) -> None:
    predict.add_argument(
        "--probability",
        nargs="?",
        const=True,
        metavar="FILE",
        help="also write the lesion probability of each voxel (FILE is for a single scan)",
    )
    predict.add_argument(
        "--preview",
        nargs="?",
        const=True,
        metavar="PNG",
        help="also draw the slice with most lesion (PNG is for a single scan)",
    )
    predict.add_argument(
        "--dicom-seg",
        nargs="?",
        const=True,
        metavar="DCM",
        help="also write a DICOM segmentation, for DICOM input (needs the extra `seg`)",
    )
    predict.add_argument(
        "--min-lesion-ml",
        type=milliliters,
        default=0.0,
        metavar="ML",
        help="leave out connected lesions under this volume (default: none)",
    )
    predict.add_argument("--force", action="store_true", help="overwrite outputs that exist")


def _add_server(predict: argparse.ArgumentParser) -> None:
    predict.add_argument("--server", required=True, metavar="HOST:PORT", help="the server's gRPC address")
    add_model(predict)
    which = predict.add_mutually_exclusive_group()
    which.add_argument("--version", type=version, metavar="N", help="model version (default: the newest)")
    which.add_argument("--label", default="", metavar="LABEL", help="version label, such as stable")
    predict.add_argument(
        "--timeout",
        type=seconds,
        default=60.0,
        metavar="SECONDS",
        help="what one request of some dozen slices may take, retries included (default: %(default)g)",
    )
    predict.add_argument("--tls", action="store_true", help="use TLS, with the public certificate authorities")
    predict.add_argument("--ca", type=Path, metavar="PEM", help="use TLS, trusting this certificate authority alone")
    predict.add_argument("--client-certificate", type=Path, metavar="PEM", help="certificate to show to the server")
    predict.add_argument("--client-key", type=Path, metavar="PEM", help="its private key")


def _predict(chosen: argparse.Namespace) -> None:
    from components.ct.scan_folder import is_dicom_series

    if chosen.scan.is_dir() and not is_dicom_series(chosen.scan):
        _predict_folder(chosen)
    else:
        _predict_one(chosen)


def _predict_one(chosen: argparse.Namespace) -> None:
    from serving.client.scan_files import Outputs, check_outputs, segment_scan

    outputs = Outputs(
        mask=chosen.output,
        probability=_named(chosen.probability, "--probability"),
        preview=_named(chosen.preview, "--preview"),
        segmentation=_named(chosen.dicom_seg, "--dicom-seg"),
    )
    check_outputs(chosen.scan, outputs, chosen.force)
    with _client(chosen) as client:
        found = segment_scan(client.predict, chosen.scan, outputs, chosen.min_lesion_ml)
    if found.intensity is Intensity.WINDOWED:
        print(f"note: the scan is 8-bit; its values were read as HU from {WINDOW_HU[0]:g} to {WINDOW_HU[1]:g}")
    answered = f"{chosen.model} version {found.version}" if found.version is not None else chosen.model
    print(
        f"{chosen.output}: {found.burden.lesion_ml:.1f} mL of lesion in {found.burden.slices_affected} of "
        f"{found.burden.slices} slices, by {answered}"
    )


def _predict_folder(chosen: argparse.Namespace) -> None:
    from tqdm import tqdm

    from serving.client.scan_folders import (
        SUMMARY,
        check_all_outputs,
        outputs_for,
        scans_by_case,
        segment_all,
        write_summary,
    )

    for given in (chosen.probability, chosen.preview, chosen.dicom_seg):
        if isinstance(given, str):
            raise InputError(f"{given}: for a folder of scans give the option alone; each case gets its own file")
    if chosen.output.is_file():
        raise InputError(f"{chosen.output}: is a file; for a folder of scans name a folder to write to")
    wanted = bool(chosen.probability), bool(chosen.preview), bool(chosen.dicom_seg)
    work = [
        (case, scan, outputs_for(case, chosen.output, *wanted)) for case, scan in scans_by_case(chosen.scan).items()
    ]
    chosen.output.mkdir(parents=True, exist_ok=True)
    summary = chosen.output / SUMMARY
    check_all_outputs([(scan, outputs) for _, scan, outputs in work], summary, chosen.force)
    rows = []
    with _client(chosen) as client:
        # On a terminal a bar, elsewhere nothing of it.
        for row in tqdm(segment_all(client.predict, work, chosen.min_lesion_ml), total=len(work), disable=None):
            rows.append(row)
            found = row.error or f"{row.lesion_ml:.1f} mL of lesion in {row.slices_affected} of {row.slices} slices"
            tqdm.write(f"{row.case}: {found}")
            write_summary(summary, rows)
    failed = [row.case for row in rows if row.error]
    print(f"{summary}: {len(rows) - len(failed)} of {len(rows)} scans segmented")
    if failed:
        raise InputError(f"{len(failed)} of {len(rows)} scans failed: {', '.join(failed)}; {summary} says why")


def _client(chosen: argparse.Namespace) -> Any:
    from serving.client.segmentation import SegmentationClient
    from serving.tls import ClientTls

    encrypted = chosen.tls or chosen.ca or chosen.client_certificate or chosen.client_key
    tls = ClientTls(chosen.ca, chosen.client_certificate, chosen.client_key) if encrypted else None
    return SegmentationClient(
        chosen.server, chosen.model, version=chosen.version, label=chosen.label, timeout_s=chosen.timeout, tls=tls
    )


def _named(given: str | bool | None, option: str) -> Path | None:
    if given is True:
        raise InputError(f"{option}: for a single scan name the file to write")
    return Path(given) if isinstance(given, str) else None
