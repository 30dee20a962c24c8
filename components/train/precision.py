"""The number format in which this machine trains fastest without losing Dice."""

from pathlib import Path

import keras

# Kernels for bfloat16 on a CPU: AMD from Zen 4, Intel from Cooper Lake (AVX-512) and Sapphire Rapids (AMX).
_BFLOAT16_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}


def mixed_precision_policy(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Choose the Keras dtype policy for training by what the hardware computes natively.

    Returns:
        "mixed_bfloat16" on GPUs from compute capability 8.0 (Ampere), on TPUs and on CPUs that have it,
        "mixed_float16" on GPUs from 7.0 (Volta), otherwise "float32".
    """
    accelerators = [device for device in keras.distribution.list_devices() if not device.startswith("cpu")]
    if not accelerators:
        return _cpu_policy(cpuinfo)
    if keras.backend.backend() != "tensorflow" or accelerators[0].startswith("tpu"):
        return "mixed_bfloat16"
    import tensorflow as tf

    details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    return gpu_policy(min(detail.get("compute_capability", (0, 0)) for detail in details))


def gpu_policy(compute_capability: tuple[int, int]) -> str:
    """The policy of a GPU by its compute capability, (major, minor)."""
    if compute_capability >= (8, 0):
        return "mixed_bfloat16"
    return "mixed_float16" if compute_capability >= (7, 0) else "float32"


def _cpu_policy(cpuinfo: Path) -> str:
    if not cpuinfo.exists():  # not Linux
        return "float32"
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "")
    return "mixed_bfloat16" if _BFLOAT16_CPU_FLAGS & set(flags.split()) else "float32"
