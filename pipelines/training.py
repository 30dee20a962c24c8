"""The training pipeline: from a source of scans to a model version, or to the reasons for its refusal."""

from kfp import dsl

from components.check_parameters.component import check_parameters
from components.evaluate.component import evaluate
from components.export.component import export
from components.identify.component import identify
from components.ingest.component import ingest
from components.register_model.component import register_model
from components.report_refusal.component import report_refusal
from components.require_valid.component import require_valid
from components.slice.component import slice
from components.train.component import train
from components.validate.component import validate
from components.view_3d.component import view_3d as render_3d


# Optional texts default to "": kfp 2.17.0's local runner fails on a pipeline parameter that is None.
@dsl.pipeline(
    name="lung-infection-training",
    description="Train a 2-D U-Net on lung CT scans and lesion masks; publish it if its test scores pass the gate.",
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
    model_registry: str = "",
    seed: int = 0,
) -> None:
    """Check the parameters; ingest, validate, slice, train and evaluate; export the model if it passes the gate.

    Args:
        model_base: Folder of the model's versions, such as a mounted volume's path, or gs://bucket/prefix; `make run`
            defaults to a folder of the run.
        model_name: Name of the served model: 1 to 63 letters, digits, dots, underscores and hyphens.
        source: Folder or gs://bucket/prefix with scans and masks; zenodo for the 20-case COVID-19 set;
            phantom:<cases> for synthetic scans.
        masks: Name of the source's folder of masks.
        label: Mask value of the lesion in multi-label masks; 0 for binary masks.
        on_invalid: Response to an invalid case: fail the run, or skip the case.
        pseudonym_key_file: File with a secret key that pseudonymizes case and patient ids; empty keeps the names.
        cache: Folder that keeps downloads between runs; empty disables the cache.
        push_to: gs://bucket/prefix to also write the de-identified scans and masks to; empty for none.
        reference_profile: Folder of an earlier cohort's profile to compare with; empty for none.
        image_size: Edge of the network's grid in pixels, a multiple of 16.
        min_lesion_pixels: Drop training slices with fewer lesion pixels; 0 keeps all slices.
        preset: Training recipe: default, baseline-focal or baseline-focal-dice.
        epochs: Number of epochs; 0 uses the preset's, 30 in default and 10 in the baselines.
        batch_size: Slices in a training step; 0 uses the preset's, 8 in all of them.
        changes: Settings of the recipe that differ from the preset, such as {"learning_rate": 0.001}.
        require_gpu: Fail without a GPU instead of training on the CPU.
        checkpoint_dir: Folder on a persistent volume from which a retried training resumes; empty for none.
        min_dice: Gate: minimum mean Dice of the test cases with lesion, each on its native grid.
        min_dice_ci: Gate: minimum lower bound of the mean's 95 % confidence interval; 0 disables the rule.
        min_case_dice: Gate: minimum Dice of every case with at least 0.5 mL of lesion; 0 disables the rule.
        min_site_dice: Gate: minimum mean Dice of every site; 0 disables the rule.
        max_false_positive_ml: Gate: maximum predicted volume in a test scan without lesions, in mL.
        max_regression: Gate: maximum drop of the mean Dice below the served version's on the same cases.
        hard_cases: Ids of hard cases of the cohort; the mean Dice is reported with and without them.
        data_license: License of the scans, for the model card.
        view_3d: Whether to render the worst test case in 3-D, with its mask and the prediction.
        signing_key_file: PEM file of an elliptic curve key that signs the exported version; empty for none.
        model_registry: Address of Kubeflow's Model Registry to register the exported version in, such as
            http://model-registry-service.kubeflow.svc:8080; empty for none.
        seed: Random seed of the synthetic cohort, the split, the initial weights and the augmentation.
    """
    # First in the function: its parameters are all there is.
    checked = check_parameters(**locals())
    identify_task = identify(source=source, masks=masks, pseudonym_key_file=pseudonym_key_file).after(checked)
    ingest_task = ingest(
        source=source,
        masks=masks,
        label=label,
        seed=seed,
        on_invalid=on_invalid,
        pseudonym_key_file=pseudonym_key_file,
        cache=cache,
        push_to=push_to,
        source_digest=identify_task.outputs["digest"],
    )
    cases = ingest_task.outputs["cases"]
    validate_task = validate(
        cases=cases,
        on_invalid=on_invalid,
        image_size=image_size,
        reference_profile=reference_profile,
        hard_cases=hard_cases,
    )
    valid = require_valid(refusal=validate_task.outputs["refusal"])
    slice_task = slice(
        cases=cases,
        accepted=validate_task.outputs["accepted"],
        image_size=image_size,
        min_lesion_pixels=min_lesion_pixels,
        seed=seed,
    ).after(valid)
    shards = slice_task.outputs["shards"]
    train_task = train(
        shards=shards,
        preset=preset,
        epochs=epochs,
        batch_size=batch_size,
        changes=changes,
        require_gpu=require_gpu,
        checkpoint_dir=checkpoint_dir,
        seed=seed,
    )
    model = train_task.outputs["model"]
    evaluate_task = evaluate(
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
    evaluation = evaluate_task.outputs["evaluation"]
    # kfp 2.17.0's local runner skips an `If` on a named output unless it has an `Else`.
    with dsl.If(evaluate_task.outputs["verdict"] == "pass", name="Gate passed"):
        export_task = export(
            model=model,
            evaluation=evaluation,
            shards=shards,
            model_base=model_base,
            verdict_sha256=evaluate_task.outputs["verdict_sha256"],
            model_name=model_name,
            signing_key_file=signing_key_file,
        )
        with dsl.If(model_registry != "", name="Register model"):
            register_model(
                evaluation=evaluation,
                metrics=evaluate_task.outputs["metrics"],
                version_dir=export_task.outputs["version_dir"],
                manifest_sha256=export_task.outputs["manifest_sha256"],
                model_registry=model_registry,
                model_name=model_name,
                data_license=data_license,
                run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
                run_name=dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
            )
    with dsl.Else(name="Gate failed"):
        report_refusal(evaluation=evaluation)
    with dsl.If(view_3d == True, name="Render in 3-D"):  # noqa: E712 - kfp compares at run time
        render_3d(cases=cases, shards=shards, model=model, evaluation=evaluation)
