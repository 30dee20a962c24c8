"""The KFP interface of the validate step."""

from typing import NamedTuple, Optional

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
    reference_profile: Optional[str] = None,  # noqa: UP045
    hard_cases: list[str] = [],  # noqa: B006 - kfp copies a default into each run
) -> NamedTuple("Outputs", refusal=str):  # type: ignore[valid-type]
    """Check every case against the expectations, and select the cases to train on.

    A critical finding does not fail this step, because a cluster keeps the report only if the step succeeds.
    Instead, require_valid fails on the refusal.

    Args:
        cases: Scans and masks, from ingest.
        accepted: Table of the cases to train on; empty if the cohort is refused.
        facts: Facts, findings, drift and resize audit of every case, as CSV.
        profile: Reference statistics of the cohort, profile.json, for the comparison with later cohorts.
        data_docs: The expectation suite as JSON, and the pages of Great Expectations.
        report: Pictures, findings and facts of the cases, for the UI; of a large cohort those with findings first.
        metrics: Numbers of cases and findings, and the mean round-trip Dice at image_size.
        on_invalid: Refuse a cohort with a critical finding (fail), or drop the cases that have one (skip).
        image_size: Edge of the network's grid in pixels, for the resize audit.
        reference_profile: Folder of an earlier run's profile, a path or gs://; empty for no comparison.
        hard_cases: Ids of known hard cases, of the gate; the step fails at an unknown one.

    Returns:
        refusal: Why the cohort is refused; empty if it is accepted.
    """
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.validate.profile import Profile
        from components.validate.validate import Outputs, validate

        outcome = validate(
            Path(cases.path),
            Outputs(*(Path(output.path) for output in (accepted, facts, profile, data_docs, report))),
            on_invalid=on_invalid,
            image_size=image_size,
            reference=Profile.read(reference_profile) if reference_profile else None,
            hard_cases=hard_cases,
        )
    for name, value in outcome.summary().items():
        metrics.log_metric(name, value)
    return (outcome.refusal or "",)
