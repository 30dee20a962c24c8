"""The KFP interface of the predict step."""

from typing import Optional

from kfp import dsl

from components import images


@dsl.component(base_image=images.CPU, install_kfp_package=False)
def predict(
    source: str,
    plan: dsl.Input[dsl.Artifact],
    part: int,
    predictions: dsl.Output[dsl.Artifact],
    server: Optional[str] = None,  # noqa: UP045 - kfp reads no other spelling
    model: Optional[str] = None,  # noqa: UP045
    model_name: str = "lung-infection",
    version_label: Optional[str] = None,  # noqa: UP045
    min_lesion_ml: float = 0.0,
) -> None:
    """Segment one part of the scans; a scan that fails does not stop the others.

    Args:
        source: Folder of the scans.
        plan: The names of the scans of each part, from plan_parts.
        part: Number of the part, from 1.
        predictions: Masks, previews and a table.
        server: host:port of a TensorFlow Serving gRPC endpoint; none if model is set.
        model: Model base or version folder to load without a server; none if server is set.
        model_name: Name of the model on the server.
        version_label: Version label on the server, such as stable; none for the newest version.
        min_lesion_ml: Minimum volume of a connected lesion in mL; smaller ones are removed from the mask.
    """
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.plan_parts.plan import read_part
        from components.predict.batch import ModelEndpoint, predict_part

        endpoint = ModelEndpoint(model_name, server or None, model or None, version_label or None)
        names = read_part(Path(plan.path), part)
        rows = predict_part(source, names, endpoint, Path(predictions.path), min_lesion_ml)
        predictions.metadata["scans"] = len(rows)
