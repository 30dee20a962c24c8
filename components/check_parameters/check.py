"""All findings about a run's parameters: their values, and the files, folders, buckets and devices that they need."""

import ctypes
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from components.assign_folds.folds import MIN_FOLDS
from components.check_parameters.values import find_invalid
from components.runtime.errors import InputError

# The functions that look something up import their libraries: some take a second, and most runs need few.


def check_parameters(parameters: Mapping[str, Any], *, gpus: int | None = None) -> None:
    """Check the parameters of a pipeline, and that a run can read and write what they name; nothing is left behind.

    Args:
        parameters: values by name; "" and 0 are unset, as in the pipelines.
        gpus: GPUs of the train step, where it runs on another machine; None if all steps run on this one.

    Raises:
        InputError: something is wrong; a line for each finding.
    """
    findings = find_invalid(parameters)
    for name in [name for name in parameters if name not in findings.lines]:
        with findings.collect(name):
            _look_up(name, parameters)
    if not {"source", "folds"} & findings.lines.keys():
        with findings.collect("source"):
            _require_phantom_patients(parameters)
    with findings.collect("require_gpu"):
        if parameters.get("require_gpu") is True:
            _require_gpu(gpus)
    with findings.collect("signing_key_file"):
        if parameters.get("signing_key_file") and gpus is None and not find_spec("model_signing"):
            raise InputError("signatures need model-signing; install the extra `signing`")
    findings.raise_error()


def _look_up(name: str, parameters: Mapping[str, Any]) -> None:
    """Check what a parameter with a valid value refers to."""
    value = parameters[name]
    match name if value else "":
        case "model_base":
            from serving.versions.publication import check_publishable

            check_publishable(value)
        case "source":
            _look_up_source(value, parameters.get("masks"), has_key=bool(parameters.get("pseudonym_key_file")))
        case "push_to":
            from components.storage.gcs import check_prefix_writable

            check_prefix_writable(value)
        case "cache" | "checkpoint_dir":
            from components.runtime.files import check_folder_writable

            check_folder_writable(Path(value))
        case "pseudonym_key_file":
            from components.ingest.naming import Naming

            Naming.from_key_file(Path(value))
        case "signing_key_file":
            from serving.versions.signing import check_private_key

            check_private_key(Path(value))
        case "folds_file":
            from components.assign_folds.folds import parse_folds

            parse_folds(Path(value))
        case "reference_profile":
            from components.validate.profile import Profile

            Profile.read(value)
        case "model_registry":
            from components.register_model.registration import check_registry

            check_registry(value)
        case "model":
            from serving.versions.layout import require_version

            require_version(value)


def _look_up_source(source: str, masks: str | None, *, has_key: bool) -> None:
    """Check a cohort with masks, or the scans of a batch, which has none; what is remote is listed by the next step."""
    if masks is not None:
        from components.ingest.sources import check_source

        check_source(source, masks, show_names=not has_key)
    elif "://" not in source and not Path(source).is_dir():
        raise InputError(f"{source}: not a folder; expected a folder of scans, or gs://bucket/prefix")


def _require_phantom_patients(parameters: Mapping[str, Any]) -> None:
    """Require as many synthetic patients as there are parts of the split, or folds."""
    from components.ingest.sources import PHANTOM

    kind, _, cases = parameters.get("source", "").partition(":")
    if kind != PHANTOM or "masks" not in parameters:
        return
    from components.ct.phantom.cohort import count_patients

    # A step has `folds` in every pipeline; one with folds has `folds_file` too, "" unless it is set.
    needed = int(parameters["folds"]) if parameters.get("folds_file") == "" else MIN_FOLDS
    if (patients := count_patients(int(cases))) < needed:
        found = f"source: {PHANTOM}:{cases} has {patients} synthetic patient{'s' * (patients > 1)}"
        raise InputError(f"{found}; expected at least {needed}, one for each part of the split; use a larger number")


def _require_gpu(gpus: int | None) -> None:
    if gpus is None and not _count_gpus():
        raise InputError("true, but this machine has no GPU (check `nvidia-smi`); remove it to train on the CPU")
    if gpus == 0:
        raise InputError("true, but the pipeline was compiled without GPUs; compile it with --gpus 1, or remove it")


def _count_gpus() -> int:
    """Count the GPUs that NVIDIA's driver offers a process (cuda.h); TensorFlow would take seconds to start."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:  # no driver
        return 0
    count = ctypes.c_int()
    return count.value if cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0
