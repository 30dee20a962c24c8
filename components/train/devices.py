"""What a training run asks of the machine, and over how many GPUs and pods it spreads."""

from functools import cache

import keras
import tensorflow as tf

from components.runtime.errors import InputError


def require_gpu() -> None:
    """Raise `InputError` unless Keras sees a GPU."""
    if not _gpus():
        raise InputError(
            "training: require_gpu is set, and no GPU is visible to this process; run the GPU image on a node with "
            "one, look at `nvidia-smi` there, or set require_gpu to false to train on the CPU"
        )


def is_multi_worker() -> bool:
    """Whether TF_CONFIG names pods that train together."""
    return bool(tf.distribute.cluster_resolver.TFConfigClusterResolver().cluster_spec())


@cache
def distribution() -> tf.distribute.Strategy:
    """Over what a run spreads: the pods that TF_CONFIG names, otherwise all GPUs of this one, otherwise nothing.

    With TF_CONFIG it must be called before TensorFlow does anything else, and joins the pods once.
    """
    if is_multi_worker():
        return tf.distribute.MultiWorkerMirroredStrategy()
    if keras.backend.backend() == "tensorflow" and _gpus() > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes: the only one, or the chief of several, or their worker 0."""
    pods = strategy.cluster_resolver
    if pods is None or not pods.cluster_spec():
        return True
    leader = "chief" if "chief" in pods.cluster_spec().jobs else "worker"
    return (pods.task_type, pods.task_id) == (leader, 0)


def _gpus() -> int:
    if keras.backend.backend() == "tensorflow":
        # Keras would count what TensorFlow has started already, and starting it bars several pods from being joined.
        return len(tf.config.list_physical_devices("GPU"))
    return len(keras.distribution.list_devices("gpu"))
