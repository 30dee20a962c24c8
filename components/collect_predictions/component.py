"""The KFP interface of the collect-predictions step."""

from typing import List  # noqa: UP035 - kfp reads no other spelling

from kfp import dsl

from components import images


@dsl.component(base_image=images.CPU, install_kfp_package=False)
def collect_predictions(
    predictions: dsl.Input[List[dsl.Artifact]],  # noqa: UP006
    results: dsl.Output[dsl.Artifact],
    gallery: dsl.Output[dsl.HTML],
) -> None:
    """Collect the predictions of all parts.

    Args:
        predictions: Masks, previews and tables of all parts.
        results: masks/ and summary.csv of all scans.
        gallery: A page with a table and previews.
    """
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.collect_predictions.collect import collect_parts

        rows = collect_parts([Path(part.path) for part in predictions], Path(results.path), Path(gallery.path))
        results.metadata["scans"] = len(rows)
        results.metadata["failed"] = sum(bool(row["error"]) for row in rows)
