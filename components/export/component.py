"""The KFP interface of the export step."""

from typing import NamedTuple, Optional

from kfp import dsl

from components import images


@dsl.component(base_image=images.CPU, install_kfp_package=False)
def export(
    model: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    shards: dsl.Input[dsl.Dataset],
    version: dsl.Output[dsl.Model],
    model_base: str,
    verdict_sha256: str,
    model_name: str = "lung-infection",
    signing_key_file: Optional[str] = None,  # noqa: UP045 - kfp reads no other spelling
) -> NamedTuple("Outputs", version_dir=str, manifest_sha256=str):  # type: ignore[valid-type]
    """Publish the model as the next version for TensorFlow Serving.

    Refuses unless the evaluation holds a passing verdict on this model, as evaluate wrote it, and the exported files
    return the model's own numbers.

    Args:
        model: The trained model.
        evaluation: The verdict, from evaluate.
        shards: Slices for the parity check, from slice.
        version: The published version: its number, location, verdict, test Dice and digests are metadata. Its URI is
            the version folder; KFP records no gs:// URI outside the run's own folder, so see `location` for those.
        model_base: Folder of the model's versions, such as a mounted volume's /models/lung-infection, or
            gs://bucket/prefix.
        verdict_sha256: SHA-256 of verdict.json, from evaluate; an edited verdict is refused.
        model_name: Name under which the model is served.
        signing_key_file: PEM of an elliptic curve key, such as a mounted secret, to sign with; None leaves the
            version unsigned.

    Returns:
        version_dir: Path or URI of the published version folder, for later steps.
        manifest_sha256: SHA-256 of the version's manifest.
    """
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.export.export import export_version

        exported = export_version(
            model=Path(model.path),
            evaluation=Path(evaluation.path),
            shards=Path(shards.path),
            model_base=model_base,
            verdict_sha256=verdict_sha256,
            model_name=model_name,
            signing_key=Path(signing_key_file) if signing_key_file else None,
        )
        version.metadata.update(exported.metadata())
        # KFP's launcher fails a step whose artifact has a gs:// URI outside the run's own folder.
        if "://" not in exported.location:
            version.uri = exported.location
    return (exported.location, exported.manifest_sha256)
