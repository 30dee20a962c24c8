"""The KFP interface of the identify step."""

from typing import NamedTuple

from kfp import dsl

from components import images


@dsl.component(base_image=images.DATA, install_kfp_package=False)
def identify(
    source: str,
    masks: str = "infection_masks",
    pseudonym_key_file: str = "",
) -> NamedTuple("Outputs", digest=str):  # type: ignore[valid-type]
    """Say in one digest what lies in the source now.

    Kubeflow's cache knows a step's parameters, but not what lies at an address that is one of them. This digest is a
    parameter of ingest, which runs anew where it is another.

    Args:
        source: The source of scans and masks, as for ingest.
        masks: Name of the folder of masks.
        pseudonym_key_file: File with a secret key; empty for none.

    Returns:
        digest: Another one where a file was added, removed, renamed or written.
    """
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.identify.fingerprint import identify

        key = Path(pseudonym_key_file).expanduser() if pseudonym_key_file else None
        return (identify(source, masks=masks, pseudonym_key=key),)
