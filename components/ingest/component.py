"""The KFP interfaces of the ingest step, and of the one before it that says whether there is anything new to ingest."""

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
    pseudonym_key_file: str = "",
    cache: str = "",
    push_to: str = "",
    source_digest: str = "",
) -> None:
    """Copy a cohort of scans and masks into the pipeline, paired by name, without personal data in headers.

    Args:
        cases: Clean copies of scans and masks, with the case table.
        source: A folder or gs://bucket/prefix with scans/ and a folder of masks; zenodo for the 20-case COVID-19 set,
            or zenodo:<address> for a mirror of its archives; phantom:<cases> for synthetic scans.
        masks: Name of the folder of masks, such as infection_masks or lung_masks.
        label: Mask value that is the lesion where masks hold several labels; 0 for masks of one lesion.
        seed: Seed of the synthetic scans.
        on_invalid: What cases do that do not pair or cannot be read: fail the step, or skip.
        pseudonym_key_file: File with a secret key; case and patient ids become keyed hashes then. Empty keeps names.
        cache: Folder that keeps downloads for the next run; empty for none.
        push_to: gs://bucket/prefix that the clean copies go to as well, never over other content; empty for none.
        source_digest: What the source holds, from identify: with another one, the cache's earlier cases are not taken.
    """
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.ingest.ingest import ingest
        from components.ingest.sources import Fetching

        table = ingest(
            source,
            Path(cases.path),
            masks=masks,
            label=label,
            seed=seed,
            on_invalid=on_invalid,
            pseudonym_key=Path(pseudonym_key_file).expanduser() if pseudonym_key_file else None,
            push_to=push_to,
            fetching=Fetching(Path(cache).expanduser() if cache else None),
        )
        cases.metadata["cases"] = len(table)
        cases.metadata["source"] = source
        cases.metadata["source_digest"] = source_digest
