"""The batch prediction pipeline: a source of scans without masks to masks, a table and a gallery."""

from kfp import dsl

from components.collect_predictions.component import collect_predictions
from components.plan_parts.component import plan_parts
from components.predict.component import predict


@dsl.pipeline(
    name="lung-infection-batch-prediction",
    description="Segment the lesions in many lung CT scans, in parts side by side: masks, a table and a gallery.",
)
def batch_prediction(
    source: str,
    server: str = "",
    model: str = "",
    model_name: str = "lung-infection",
    version_label: str = "",
    parts: int = 4,
    min_lesion_ml: float = 0.0,
) -> None:
    """Deal the scans out, segment each part, bring the parts together.

    Args:
        source: A folder of scans (.nii, .nii.gz, folders of DICOM series) that every step can read, or gs://bucket/prefix.
        server: host:port of a TensorFlow Serving endpoint (gRPC); empty where model is given.
        model: A model base or version folder to call directly, without a server; empty where server is given.
        model_name: The model's name on the server.
        version_label: Version label on the server, such as stable; empty for the newest.
        parts: Number of parts that run side by side.
        min_lesion_ml: Connected lesions under this volume are left out.
    """
    planned = plan_parts(source=source, parts=parts)
    with dsl.ParallelFor(planned.output) as scans:
        predicted = predict(
            source=source,
            scans=scans,
            server=server,
            model=model,
            model_name=model_name,
            version_label=version_label,
            min_lesion_ml=min_lesion_ml,
        )
    collect_predictions(predictions=dsl.Collected(predicted.outputs["predictions"]))
