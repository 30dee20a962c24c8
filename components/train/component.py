"""The KFP interface of the train step."""

from typing import Optional

from kfp import dsl

from components import images


@dsl.component(base_image=images.TRAIN, install_kfp_package=False)
def train(
    shards: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    tensorboard: dsl.Output[dsl.Artifact],
    preset: str = "default",
    epochs: Optional[int] = None,  # noqa: UP045 - the one spelling that KFP accepts
    batch_size: Optional[int] = None,  # noqa: UP045
    seed: int = 0,
    require_gpu: bool = False,
    checkpoint_dir: Optional[str] = None,  # noqa: UP045
    changes: dict = {},  # noqa: B006 - a KFP default is copied into each run
) -> None:
    """Train a 2-D U-Net and keep the weights of the epoch with the best validation Dice.

    Args:
        shards: TFRecord shards with split.json, from slice.
        model: model.keras, the best network in float32, and training.json, its history.
        report: HTML page with the loss and Dice curves.
        metrics: Validation Dice of the best epoch, and the run's size and time.
        tensorboard: Event files for TensorBoard.
        preset: Training recipe: default, baseline-focal or baseline-focal-dice.
        epochs: Length of the run; None or 0 uses the value of changes or the preset.
        batch_size: Slices in a training step; None or 0 uses the value of changes or the preset.
        seed: Seed of weights, order and augmentation.
        require_gpu: Fail if no GPU is visible instead of training on the CPU.
        checkpoint_dir: Folder on a volume that outlives the pod; a retried step resumes there after the last finished
            epoch. By default the model's folder, which a new pod does not see.
        changes: Settings of the recipe that differ from the preset, such as {"learning_rate": 0.001}.
    """
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.train.checkpoint import parse_checkpoint_dir
        from components.train.devices import require_gpu as check_gpu
        from components.train.recipe import select_recipe
        from components.train.record import write_report
        from components.train.training import train as run_training

        if require_gpu:
            check_gpu()
        # The pipelines pass 0 for None: kfp 2.17.0 neither runs an unset Optional locally nor passes it into a loop.
        recipe = select_recipe(preset, changes, epochs=epochs or None, batch_size=batch_size or None)
        run = run_training(
            Path(shards.path),
            Path(model.path),
            recipe=recipe,
            seed=seed,
            tensorboard=Path(tensorboard.path),
            checkpoints=parse_checkpoint_dir(checkpoint_dir),
        )
        write_report(Path(report.path), run, preset)
    for name, value in run.summary().items():
        metrics.log_metric(name, value)
    model.metadata.update({"framework": "keras", "sha256": run.model_sha256})
