"""The training pipeline: from a source of scans to a served model, or to a refusal that says why."""

from kfp import dsl

from components.evaluate.component import evaluate
from components.export.component import export, refuse
from components.ingest.component import ingest
from components.slice.component import slice
from components.train.component import train
from components.validate.component import validate


@dsl.pipeline(
    name="lung-infection-training",
    description="Train a 2-D U-Net on lung CT scans and lesion masks; publish it only if its Dice passes the gate.",
)
def training(
    model_base: str,
    source: str = "phantom:12",
    masks: str = "infection_masks",
    label: int = 0,
    on_invalid: str = "fail",
    image_size: int = 128,
    min_lesion_pixels: int = 0,
    preset: str = "default",
    epochs: int = 30,
    batch_size: int = 8,
    min_dice: float = 0.5,
    model_name: str = "lung-infection",
    seed: int = 0,
) -> None:
    """Ingest, validate, slice, train, evaluate, and export behind the Dice gate.

    Args:
        model_base: Folder of the served model's versions: a mounted volume's path.
        source: Where scans and masks come from: a folder, or phantom:<cases> for a synthetic cohort.
        masks: Folder of masks inside the source.
        label: Label of the lesion in masks with several; 0 where masks hold 0 and 1 alone.
        on_invalid: What an invalid case does: fail the run, or skip it.
        image_size: Edge of the network's grid in pixels, a multiple of 16.
        min_lesion_pixels: Leave out training slices with fewer lesion pixels; 0 keeps all.
        preset: Training recipe.
        epochs: Epochs of a fixed number of slices each.
        batch_size: Slices in a training step.
        min_dice: The gate: smallest mean test Dice, for each case on its own grid, that is published.
        model_name: Name under which the model is served.
        seed: Seed of the synthetic cohort, the split, the weights and the augmentation.
    """
    ingested = ingest(source=source, masks=masks, label=label, seed=seed)
    cases = ingested.outputs["cases"]
    validated = validate(cases=cases, on_invalid=on_invalid)
    sliced = slice(
        cases=cases,
        accepted=validated.outputs["accepted"],
        image_size=image_size,
        min_lesion_pixels=min_lesion_pixels,
        seed=seed,
    )
    shards = sliced.outputs["shards"]
    trained = train(shards=shards, preset=preset, epochs=epochs, batch_size=batch_size, seed=seed)
    model = trained.outputs["model"]
    evaluated = evaluate(cases=cases, shards=shards, model=model, min_dice=min_dice)
    evaluation = evaluated.outputs["evaluation"]
    # A lone `If` on a named output is skipped by kfp 2.17.0's local runner; with its `Else` it runs.
    with dsl.If(evaluated.outputs["verdict"] == "pass"):
        export(model=model, evaluation=evaluation, shards=shards, model_base=model_base, model_name=model_name)
    with dsl.Else():
        refuse(evaluation=evaluation)
