"""The KFP interfaces of both sides of the gate: the export, and the refusal."""

from typing import NamedTuple

from kfp import dsl

from components import images


@dsl.component(base_image=images.CPU, install_kfp_package=False)
def export(
    model: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    shards: dsl.Input[dsl.Dataset],
    model_base: str,
    model_name: str = "lung-infection",
    signing_key_file: str = "",
) -> NamedTuple("Outputs", version_dir=str):  # type: ignore[valid-type]
    """Publish the model as the next version that TensorFlow Serving picks up.

    Refuses unless the evaluation holds a passing verdict on this very model, and unless the exported files give
    the model's own numbers.

    Args:
        model: The trained model.
        evaluation: The verdict of evaluate.
        shards: Slices to check the exported files with.
        model_base: Folder of the model's versions, such as a mounted volume's /models/lung-infection, or gs://bucket/prefix.
        model_name: Name under which the model is served.
        signing_key_file: PEM of an elliptic curve key, such as a mounted secret, to sign with; empty for none.
    """
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.export.export import export_version

        key = Path(signing_key_file) if signing_key_file else None
        parts = Path(model.path), Path(evaluation.path), Path(shards.path)
        return (export_version(*parts, model_base, model_name, key),)
