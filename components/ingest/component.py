"""The KFP interface of the ingest step."""

from typing import Optional

from kfp import dsl

from components import images


@dsl.component(base_image=images.DATA, install_kfp_package=False)
def ingest(
    cases: dsl.Output[dsl.Dataset],
    source: str = "phantom:12",
    masks: str = "infection_masks",
    label: int = 0,
    seed: int = 0,
    on_invalid: str = "fail",
    pseudonym_key_file: Optional[str] = None,  # noqa: UP045
    cache: Optional[str] = None,  # noqa: UP045
    push_to: Optional[str] = None,  # noqa: UP045
    source_digest: Optional[str] = None,  # noqa: UP045
) -> None:
    """Copy a cohort of scans and masks into the pipeline: paired by name, without identifying header fields.

    Args:
        cases: De-identified copies of scans and masks, with the case table.
        source: A folder or gs://bucket/prefix with scans/ and a folder of masks; zenodo for the 20-case COVID-19 set,
            or zenodo:<address> for a mirror of its archives; phantom:<cases> for synthetic scans.
        masks: Name of the folder of masks, such as infection_masks or lung_masks.
        label: Mask value of the lesion where masks hold several labels; 0 for binary masks.
        seed: Random seed of the synthetic scans.
        on_invalid: Fail the step at unpaired or unreadable cases (fail), or leave them out (skip).
        pseudonym_key_file: File with a secret key; case and patient ids become keyed hashes. Empty keeps names.
        cache: Folder that keeps downloads for the next run; empty for none.
        push_to: gs://bucket/prefix for a second copy of the output; never overwrites other content. Empty for none.
        source_digest: Digest of the source, from identify. A new digest invalidates Kubeflow's cache of this step.
    """
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.ingest.ingest import ingest
        from components.ingest.sources import FetchOptions

        table = ingest(
            source,
            Path(cases.path),
            masks=masks,
            label=label,
            seed=seed,
            on_invalid=on_invalid,
            pseudonym_key=Path(pseudonym_key_file).expanduser() if pseudonym_key_file else None,
            push_to=push_to,
            options=FetchOptions(Path(cache).expanduser() if cache else None),
        )
        cases.metadata |= {"cases": len(table), "source": source, "source_digest": source_digest or ""}
