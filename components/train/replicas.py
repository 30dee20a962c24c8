"""Training on several GPUs or pods at once: a copy of the network on each, a part of every batch, one step for all."""

import keras
import tensorflow as tf


def fit_replicas(
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    batches: tf.data.Dataset,
    *,
    first_epoch: int,
    epochs: int,
    steps: int,
    callback: keras.callbacks.Callback,
) -> None:
    """Do what `model.fit` does, which in Keras 3.15 fails as soon as there are several pods.

    Args:
        model: built and compiled, its optimizer's variables too, in the strategy's scope.
        strategy: who takes part.
        batches: of all replicas together; each takes its share.
        first_epoch: epochs that are done already.
        epochs: length of the run, those included.
        steps: batches of an epoch.
        callback: its `on_epoch_end` is called.
    """
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
