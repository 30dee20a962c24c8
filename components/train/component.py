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
    epochs: int = 30,
    batch_size: int = 8,
    seed: int = 0,
    require_gpu: bool = False,
    checkpoint_dir: Optional[str] = None,  # noqa: UP045 - the one spelling that KFP knows
    changes: dict = {},  # noqa: B006 - a KFP default is copied into each run
) -> None:
    """Train a 2-D U-Net and keep the weights of the epoch with the best validation Dice.

    Args:
        shards: TFRecord shards with split.json, from slice.
        model: model.keras, the best network in float32, and training.json, its history.
        report: A page with the curves of loss and Dice.
        metrics: The best epoch's validation Dice, and what the run took.
        tensorboard: Event files for TensorBoard.
        preset: Training recipe: default, baseline-focal or baseline-focal-dice.
        epochs: Length of the run; an epoch of the default recipe has 256 slices whatever the cohort's size.
        batch_size: Slices in a training step.
        seed: Seed of weights, order and augmentation.
        require_gpu: Fail where no GPU is visible, and never train on the CPU instead.
        checkpoint_dir: Folder on a volume that outlives the pod; a retried step goes on there after its last
            finished epoch. Without it the checkpoints lie beside the model, which a new pod does not see.
        changes: Settings of the recipe that differ from the preset, such as {"learning_rate": 0.001}.
    """
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.train import checkpoint, devices, recipe, training
        from components.train import report as pages

        if require_gpu:
            devices.require_gpu()
        chosen = recipe.preset_recipe(preset)
        chosen = recipe.changed_recipe(chosen, {**changes, "epochs": epochs, "batch_size": batch_size})
        run = training.train(
            Path(shards.path),
            Path(model.path),
            recipe=chosen,
            seed=seed,
            tensorboard=Path(tensorboard.path),
            checkpoints=checkpoint.checkpoint_folder(checkpoint_dir),
        )
        pages.write_report(Path(report.path), run, preset)
    for name, value in run.summary().items():
        metrics.log_metric(name, value)
    model.metadata.update({"framework": "keras", "sha256": run.model_sha256})
