"""The KFP interface of the identify step."""

from typing import NamedTuple, Optional

from kfp import dsl

from components import images


@dsl.component(base_image=images.DATA, install_kfp_package=False)
def identify(
    source: str,
    masks: str = "infection_masks",
    pseudonym_key_file: Optional[str] = None,  # noqa: UP045
) -> NamedTuple("Outputs", digest=str):  # type: ignore[valid-type]
    """Fingerprint the content of the source, without downloading it.

    Kubeflow's cache knows the parameters of a step, but not the content of a source. Ingest takes this digest as a
    parameter, and therefore runs again when the content changes.

    Args:
        source: Source of scans and masks, as for ingest.
        masks: Name of the folder of masks.
        pseudonym_key_file: File with a secret key; empty for none.

    Returns:
        digest: SHA-256; changes when a file is added, removed, renamed or rewritten.
    """
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.identify.fingerprint import fingerprint_source

        key = Path(pseudonym_key_file).expanduser() if pseudonym_key_file else None
        return (fingerprint_source(source, masks=masks, pseudonym_key=key),)
