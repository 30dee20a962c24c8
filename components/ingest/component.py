"""The KFP interface of the ingest step."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.CPU, install_kfp_package=False)
def ingest(
    cases: dsl.Output[dsl.Dataset],
    source: str = "phantom:12",
    masks: str = "infection_masks",
    label: int = 0,
    seed: int = 0,
) -> None:
    """Copy a cohort of scans and masks into the pipeline, paired by name, without personal data in headers.

    Args:
        cases: Clean copies of scans and masks, with the case table.
        source: phantom:<cases> for synthetic scans, or a folder with scans/ and a folder of masks.
        masks: Name of the folder of masks, such as infection_masks or lung_masks.
        label: Mask value that is the lesion where masks hold several labels; 0 for masks of one lesion.
        seed: Seed of the synthetic scans.
    """
    from pathlib import Path

    from components.ct.errors import told_in_one_line

    with told_in_one_line():
        from components.ingest.ingest import ingest

        table = ingest(source, Path(cases.path), masks=masks, label=label, seed=seed)
        cases.metadata["cases"] = len(table)
        cases.metadata["source"] = source
