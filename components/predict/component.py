"""The KFP interfaces of batch prediction: deal the scans out, segment a part, bring all together."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.CPU, install_kfp_package=False)
def predict(
    source: str,
    scans: str,
    predictions: dsl.Output[dsl.Artifact],
    server: str = "",
    model: str = "",
    model_name: str = "lung-infection",
    version_label: str = "",
    min_lesion_ml: float = 0.0,
) -> None:
    """Segment one part of the scans; a scan that cannot be read is noted and does not stop the others.

    Args:
        source: Where the scans are.
        scans: Their names, a JSON list.
        predictions: Masks, previews and a table.
        server: host:port of a TensorFlow Serving endpoint (gRPC); empty where model is given.
        model: A model base or version folder to call directly; empty where server is given.
        model_name: The model's name on the server.
        version_label: Version label on the server, such as stable; empty for the newest.
        min_lesion_ml: Connected lesions under this volume are left out.
    """
    import json
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.predict import batch

        served = batch.Served(server, model, model_name, version_label)
        rows = batch.predict_part(source, json.loads(scans), served, Path(predictions.path), min_lesion_ml)
        predictions.metadata["scans"] = len(rows)
