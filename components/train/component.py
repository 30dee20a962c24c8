"""The KFP interfaces of the train step, and of the search for its settings."""

from typing import NamedTuple, Optional

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
    unlabeled: Optional[str] = None,  # noqa: UP045
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
        unlabeled: Folder of scans without masks (NIfTI) to learn from too, by the answers of three networks that
            are trained first; such a run takes four times as long. Without it the masks alone are learnt from.
    """
    import tempfile
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.train import checkpoint, devices, pseudo_labels, recipe, training
        from components.train import report as pages

        if require_gpu:
            devices.require_gpu()
        chosen = recipe.preset_recipe(preset)
        chosen = recipe.changed_recipe(chosen, {**changes, "epochs": epochs, "batch_size": batch_size})
        with tempfile.TemporaryDirectory() as scratch:
            fitted = Path(shards.path)
            if unlabeled:
                more = Path(scratch) / "shards"
                fitted = pseudo_labels.with_pseudo_labels(fitted, Path(unlabeled), more, recipe=chosen, seed=seed)
            run = training.train(
                fitted,
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


@dsl.component(base_image=images.TRAIN, install_kfp_package=False)
def tune(
    shards: dsl.Input[dsl.Dataset],
    trials_table: dsl.Output[dsl.Dataset],
    preset: str = "default",
    trials: int = 12,
    epochs: int = 10,
    seed: int = 0,
) -> NamedTuple("Outputs", changes=dict):  # type: ignore[valid-type]
    """Search for better settings on the validation cases: learning rate, loss weights and strength of augmentation.

    Args:
        shards: TFRecord shards with split.json, from slice.
        trials_table: best.json, and trials.csv with every trial.
        preset: The recipe to start from, and the first trial.
        trials: How many settings are tried, each by a training run.
        epochs: Length of each of these runs.
        seed: Seed of the search and of the runs.

    Returns:
        changes: The best settings, to hand to train under the same name.
    """
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.train import recipe, tuning

        chosen = recipe.changed_recipe(recipe.preset_recipe(preset), {"epochs": epochs})
        found = tuning.tune(Path(shards.path), Path(trials_table.path), recipe=chosen, trials=trials, seed=seed)
    return (found,)
