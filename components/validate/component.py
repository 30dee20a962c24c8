"""The KFP interface of the validate step."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.CPU, install_kfp_package=False)
def validate(
    cases: dsl.Input[dsl.Dataset],
    accepted: dsl.Output[dsl.Dataset],
    facts: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    on_invalid: str = "fail",
) -> None:
    """Check every case against the expectations; a critical finding ends the run once all are collected.

    Args:
        cases: Scans and masks, from ingest.
        accepted: Table of the cases that may be trained on.
        facts: Facts and findings about every case, as CSV.
        report: The findings, for the UI.
        metrics: How many cases and findings there are.
        on_invalid: fail at a critical finding, or skip the cases that have one.
    """
    from pathlib import Path

    from components.ct.errors import told_in_one_line

    with told_in_one_line():
        from components.validate.validate import validate

        outcome = validate(
            Path(cases.path), Path(accepted.path), Path(facts.path), Path(report.path), on_invalid=on_invalid
        )
        metrics.log_metric("cases_accepted", len(outcome.accepted))
        metrics.log_metric("cases_dropped", len(outcome.dropped))
        metrics.log_metric("critical_findings", len(outcome.critical))
        metrics.log_metric("warnings", len(outcome.findings) - len(outcome.critical))
