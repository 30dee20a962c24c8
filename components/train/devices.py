"""The devices of a run: required GPUs, number format, and training on several GPUs or pods."""

from functools import cache
from pathlib import Path

import keras
import tensorflow as tf

from components.runtime.errors import InputError

# CPUs with bfloat16 kernels: AMD since Zen 4, Intel since Cooper Lake (AVX-512) and Sapphire Rapids (AMX).
_BFLOAT16_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}


def require_gpu() -> None:
    """Raise `InputError` unless Keras sees a GPU."""
    if not _count_gpus():
        raise InputError(
            "training: require_gpu is true, but no GPU is visible; expected 1 or more; use the GPU image on a GPU node "
            "and check `nvidia-smi` there, or set require_gpu to false to train on the CPU"
        )


@cache
def select_strategy() -> tf.distribute.Strategy:
    """Return the strategy for the pods that TF_CONFIG names, else for all GPUs of this machine, else the default.

    With TF_CONFIG, call it before any other TensorFlow operation; it connects the pods once.
    """
    if tf.distribute.cluster_resolver.TFConfigClusterResolver().cluster_spec():
        return tf.distribute.MultiWorkerMirroredStrategy()
    if keras.backend.backend() == "tensorflow" and _count_gpus() > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the outputs: the only process, the chief, or worker 0 without a chief."""
    pods = strategy.cluster_resolver
    if pods is None or not pods.cluster_spec():
        return True
    chief = "chief" if "chief" in pods.cluster_spec().jobs else "worker"
    return (pods.task_type, pods.task_id) == (chief, 0)


def mixed_precision_policy(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Choose the Keras dtype policy that the hardware computes natively.

    Returns:
        "mixed_bfloat16" on GPUs with compute capability 8.0 (Ampere) or higher, TPUs, and CPUs that support it;
        "mixed_float16" on GPUs with 7.0 (Volta) or higher; otherwise "float32".
    """
    accelerators = [device for device in keras.distribution.list_devices() if not device.startswith("cpu")]
    if not accelerators:
        return _cpu_policy(cpuinfo)
    if keras.backend.backend() != "tensorflow" or accelerators[0].startswith("tpu"):
        return "mixed_bfloat16"
    details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    return gpu_policy(min(detail.get("compute_capability", (0, 0)) for detail in details))


def gpu_policy(compute_capability: tuple[int, int]) -> str:
    """Return the policy for a GPU's compute capability, (major, minor)."""
    if compute_capability >= (8, 0):
        return "mixed_bfloat16"
    return "mixed_float16" if compute_capability >= (7, 0) else "float32"


def fit(
    model: keras.Model,
    batches: tf.data.Dataset,
    *,
    first_epoch: int,
    epochs: int,
    steps: int,
    callback: keras.callbacks.Callback,
) -> None:
    """Train a compiled model on all replicas of its strategy, from `first_epoch` (from 0) to `epochs`.

    `batches` are global: each replica takes its share. An epoch has `steps` batches, and ends with the callback.
    """
    strategy = model.distribute_strategy if keras.backend.backend() == "tensorflow" else tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync == 1:
        schedule = {"initial_epoch": first_epoch, "epochs": epochs, "steps_per_epoch": steps}
        model.fit(batches, **schedule, callbacks=[callback], verbose=0, shuffle=False)
        return
    # `model.fit` fails with several pods in Keras 3.15.
    shares = iter(strategy.experimental_distribute_dataset(batches))
    callback.set_model(model)

    @tf.function
    def step(share: tuple[tf.Tensor, ...]) -> None:
        strategy.run(model.train_step, args=(share,))

    for epoch in range(first_epoch, epochs):
        model.reset_metrics()
        for _ in range(steps):
            step(next(shares))
        callback.on_epoch_end(epoch, model.get_metrics_result())
        if model.stop_training:
            break


def _count_gpus() -> int:
    if keras.backend.backend() == "tensorflow":
        # Keras would initialize TensorFlow's devices, after which pods can no longer be connected.
        return len(tf.config.list_physical_devices("GPU"))
    return len(keras.distribution.list_devices("gpu"))


def _cpu_policy(cpuinfo: Path) -> str:
    if not cpuinfo.exists():  # not Linux
        return "float32"
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "")
    return "mixed_bfloat16" if _BFLOAT16_CPU_FLAGS & set(flags.split()) else "float32"
