"""The cross-validation pipeline: a recipe's scores on every case of a cohort."""

from kfp import dsl

from components.assign_folds.component import assign_folds
from components.check_parameters.component import check_parameters
from components.evaluate.component import evaluate
from components.identify.component import identify
from components.ingest.component import ingest
from components.require_valid.component import require_valid
from components.select_fold.component import select_fold
from components.slice.component import slice
from components.summarize_folds.component import summarize_folds
from components.train.component import train
from components.validate.component import validate


@dsl.pipeline(
    name="lung-infection-cross-validation",
    description="Train and evaluate a 2-D U-Net on each fold of a cohort, split by patient; no version is published.",
)
def cross_validation(
    source: str = "phantom:12",
    masks: str = "infection_masks",
    label: int = 0,
    on_invalid: str = "fail",
    cache: str = "",
    folds: int = 5,
    folds_file: str = "",
    image_size: int = 128,
    preset: str = "default",
    epochs: int = 0,
    batch_size: int = 0,
    seed: int = 0,
) -> None:
    """Check the parameters; ingest, validate and slice once; train and evaluate on each fold; summarize the folds.

    Args:
        source: Folder or gs://bucket/prefix with scans and masks; zenodo for the 20-case COVID-19 set;
            phantom:<cases> for synthetic scans.
        masks: Name of the source's folder of masks.
        label: Mask value of the lesion in multi-label masks; 0 for binary masks.
        on_invalid: Response to an invalid case: fail the run, or skip the case.
        cache: Folder that keeps downloads between runs; empty disables the cache.
        folds: Number of folds, at least 3.
        folds_file: JSON file with predefined folds, a list of lists of case ids; empty draws folds by patient.
        image_size: Edge of the network's grid in pixels, a multiple of 16.
        preset: Training recipe: default, baseline-focal or baseline-focal-dice.
        epochs: Number of epochs; 0 uses the preset's, 30 in default and 10 in the baselines.
        batch_size: Slices in a training step; 0 uses the preset's, 8 in all of them.
        seed: Random seed of the synthetic cohort, the folds, the initial weights and the augmentation.
    """
    # First in the function: its parameters are all there is.
    checked = check_parameters(**locals())
    identify_task = identify(source=source, masks=masks).after(checked)
    ingest_task = ingest(
        source=source,
        masks=masks,
        label=label,
        seed=seed,
        on_invalid=on_invalid,
        cache=cache,
        source_digest=identify_task.outputs["digest"],
    )
    cases = ingest_task.outputs["cases"]
    validate_task = validate(cases=cases, on_invalid=on_invalid, image_size=image_size)
    valid = require_valid(refusal=validate_task.outputs["refusal"])
    accepted = validate_task.outputs["accepted"]
    slice_task = slice(cases=cases, accepted=accepted, image_size=image_size, seed=seed).after(valid)
    shards = slice_task.outputs["shards"]
    assign_task = assign_folds(accepted=accepted, shards=shards, folds=folds, folds_file=folds_file, seed=seed)
    assignment = assign_task.outputs["assignment"]
    # Folds run one at a time because they share one machine's cores; on a cluster, raise this to the number of GPUs.
    with dsl.ParallelFor(assign_task.outputs["Output"], name="Folds", parallelism=1) as number:
        select_task = select_fold(shards=shards, assignment=assignment, number=number)
        fold_shards = select_task.outputs["fold_shards"]
        train_task = train(shards=fold_shards, preset=preset, epochs=epochs, batch_size=batch_size, seed=seed)
        evaluate_task = evaluate(cases=cases, shards=fold_shards, model=train_task.outputs["model"], min_dice=0.0)
    summarize_folds(assignment=assignment, evaluations=dsl.Collected(evaluate_task.outputs["evaluation"]))
