"""The training pipeline: from a source of scans to a served model, or to a refusal that says why."""

from kfp import dsl

from components.evaluate.component import evaluate
from components.export.component import export
from components.identify.component import identify
from components.ingest.component import ingest
from components.report_refusal.component import report_refusal
from components.require_valid.component import require_valid
from components.slice.component import slice
from components.train.component import train
from components.validate.component import validate
from components.view_3d.component import view_3d as view


@dsl.pipeline(
    name="lung-infection-training",
    description="Train a 2-D U-Net on lung CT scans and lesion masks; publish it only if its Dice passes the gate.",
)
def training(
    model_base: str,
    model_name: str = "lung-infection",
    source: str = "phantom:12",
    masks: str = "infection_masks",
    label: int = 0,
    on_invalid: str = "fail",
    pseudonym_key_file: str = "",
    cache: str = "",
    push_to: str = "",
    reference_profile: str = "",
    image_size: int = 128,
    min_lesion_pixels: int = 0,
    preset: str = "default",
    epochs: int = 0,
    batch_size: int = 0,
    changes: dict = {},  # noqa: B006 - a KFP default is copied into each run
    require_gpu: bool = False,
    checkpoint_dir: str = "",
    min_dice: float = 0.5,
    min_dice_ci: float = 0.0,
    min_case_dice: float = 0.0,
    min_site_dice: float = 0.0,
    max_false_positive_ml: float = 50.0,
    max_regression: float = 0.02,
    hard_cases: list[str] = [],  # noqa: B006
    data_license: str = "not stated",
    view_3d: bool = False,
    signing_key_file: str = "",
    seed: int = 0,
) -> None:
    """Ingest, validate, slice, train, evaluate, and export behind the Dice gate.

    Args:
        model_base: Folder of the served model's versions, such as a mounted volume's path, or gs://bucket/prefix.
        model_name: Name under which the model is served.
        source: A folder or gs://bucket/prefix with scans and masks; zenodo for the 20-case COVID-19 set;
            phantom:<cases> for synthetic scans.
        masks: Name of the folder of masks in the source.
        label: Mask value that is the lesion where masks hold several labels; 0 for masks of one lesion.
        on_invalid: What an invalid case does: fail the run, or skip it.
        pseudonym_key_file: File with a secret key; case and patient ids become keyed hashes then. Empty keeps names.
        cache: Folder that keeps downloads for the next run; empty for none.
        push_to: gs://bucket/prefix that the clean copies of scans and masks go to as well; empty for none.
        reference_profile: Folder of an earlier cohort's profile to compare this one with; empty for none.
        image_size: Edge of the network's grid in pixels, a multiple of 16.
        min_lesion_pixels: Leave out training slices with fewer lesion pixels; 0 keeps all.
        preset: Training recipe: default, baseline-focal or baseline-focal-dice.
        epochs: Number of epochs; 0 uses the preset's, 30 in default and 10 in the baselines.
        batch_size: Slices in a training step; 0 uses the preset's, 8 in all of them.
        changes: Settings of the recipe that differ from the preset, such as {"learning_rate": 0.001}.
        require_gpu: Fail where no GPU is visible, and never train on the CPU instead.
        checkpoint_dir: Folder on a volume that outlives the pod, from which a retried training goes on; empty for none.
        min_dice: The gate: smallest mean test Dice, for each case on its own grid, that is published.
        min_dice_ci: The gate: smallest lower end of that mean's 95 % interval; 0 asks for nothing.
        min_case_dice: The gate: smallest Dice of the worst case with 0.5 mL of lesion or more; 0 asks for nothing.
        min_site_dice: The gate: smallest mean Dice of each source; 0 asks for nothing.
        max_false_positive_ml: The gate: most volume that may be marked in a test scan without lesion.
        max_regression: The gate: how far the mean Dice may fall below the served version's, on the same cases.
        hard_cases: Ids of cases with which and without which the mean Dice is reported.
        data_license: Under which terms the scans may be used, for the model card.
        view_3d: Whether to write a page that shows the worst test case in 3-D, scan and both masks.
        signing_key_file: PEM of an elliptic curve key to sign the exported version with; empty for none.
        seed: Seed of the synthetic cohort, the split, the weights and the augmentation.
    """
    identified = identify(source=source, masks=masks, pseudonym_key_file=pseudonym_key_file)
    ingested = ingest(
        source=source,
        masks=masks,
        label=label,
        seed=seed,
        on_invalid=on_invalid,
        pseudonym_key_file=pseudonym_key_file,
        cache=cache,
        push_to=push_to,
        source_digest=identified.outputs["digest"],
    )
    cases = ingested.outputs["cases"]
    validated = validate(cases=cases, on_invalid=on_invalid, image_size=image_size, reference_profile=reference_profile)
    valid = require_valid(refusal=validated.outputs["refusal"])
    sliced = slice(
        cases=cases,
        accepted=validated.outputs["accepted"],
        image_size=image_size,
        min_lesion_pixels=min_lesion_pixels,
        seed=seed,
    ).after(valid)
    shards = sliced.outputs["shards"]
    trained = train(
        shards=shards,
        preset=preset,
        epochs=epochs,
        batch_size=batch_size,
        changes=changes,
        require_gpu=require_gpu,
        checkpoint_dir=checkpoint_dir,
        seed=seed,
    )
    model = trained.outputs["model"]
    evaluated = evaluate(
        cases=cases,
        shards=shards,
        model=model,
        min_dice=min_dice,
        min_dice_ci=min_dice_ci,
        min_case_dice=min_case_dice,
        min_site_dice=min_site_dice,
        max_false_positive_ml=max_false_positive_ml,
        max_regression=max_regression,
        champion=model_base,
        hard_cases=hard_cases,
        data_license=data_license,
    )
    evaluation = evaluated.outputs["evaluation"]
    # A lone `If` on a named output is skipped by kfp 2.17.0's local runner; with its `Else` it runs.
    with dsl.If(evaluated.outputs["verdict"] == "pass"):
        export(
            model=model,
            evaluation=evaluation,
            shards=shards,
            model_base=model_base,
            model_name=model_name,
            signing_key_file=signing_key_file,
        )
    with dsl.Else():
        report_refusal(evaluation=evaluation)
    with dsl.If(view_3d == True, name="view-3d"):  # noqa: E712 - kfp compares it when the pipeline runs
        view(cases=cases, shards=shards, model=model, evaluation=evaluation)
