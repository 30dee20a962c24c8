"""The KFP interface of the validate step, and of the gate behind it."""

from typing import NamedTuple

from kfp import dsl

from components import images


@dsl.component(base_image=images.DATA, install_kfp_package=False)
def validate(
    cases: dsl.Input[dsl.Dataset],
    accepted: dsl.Output[dsl.Dataset],
    facts: dsl.Output[dsl.Dataset],
    profile: dsl.Output[dsl.Artifact],
    data_docs: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    on_invalid: str = "fail",
    image_size: int = 128,
    reference_profile: str = "",
) -> NamedTuple("Outputs", refusal=str):  # type: ignore[valid-type]
    """Check every case against the expectations, and say which may be trained on.

    A critical finding does not fail this step, since a cluster keeps the report of a step that succeeds alone:
    require_valid fails on the refusal, and slice on the empty table.

    Args:
        cases: Scans and masks, from ingest.
        accepted: Table of the cases that may be trained on.
        facts: Facts, findings, drift and resize audit of every case, as CSV.
        profile: The cohort's reference statistics, profile.json, to compare later cohorts with.
        data_docs: The expectation suite as JSON, and Great Expectations' own pages.
        report: Every case with a picture, every finding and fact, for the UI.
        metrics: How many cases and findings there are, and the best Dice that image_size allows.
        on_invalid: Refuse the cohort at a critical finding (fail), or leave out the cases that have one (skip).
        image_size: Edge of the network's grid in pixels, for the audit of what resizing loses.
        reference_profile: Folder of an earlier run's profile, a path or gs://; empty compares with none.

    Returns:
        refusal: Why nothing may be trained on this cohort; empty where it may.
    """
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.validate.reference import read_reference
        from components.validate.validate import Outputs, validate

        outcome = validate(
            Path(cases.path),
            Outputs(*(Path(output.path) for output in (accepted, facts, profile, data_docs, report))),
            on_invalid=on_invalid,
            image_size=image_size,
            reference=read_reference(reference_profile) if reference_profile else None,
        )
    for name, value in outcome.summary().items():
        metrics.log_metric(name, value)
    return (outcome.refusal,)
