"""The batch prediction pipeline: masks, a table and a gallery of many scans."""

from kfp import dsl

from components.check_parameters.component import check_parameters
from components.collect_predictions.component import collect_predictions
from components.plan_parts.component import plan_parts
from components.predict.component import predict


@dsl.pipeline(
    name="lung-infection-batch-prediction",
    description="Segment lesions in many lung CT scans, in parallel parts: masks, a table and a gallery.",
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
    """Check the parameters, plan parts of the scans, segment each part, collect the predictions.

    Args:
        source: Folder of scans (.nii, .nii.gz or folders of DICOM series) that every step can read, or gs://bucket/prefix.
        server: host:port of a TensorFlow Serving gRPC endpoint; empty if model is set.
        model: Model base or version folder to load without a server; empty if server is set.
        model_name: Name of the model on the server.
        version_label: Version label on the server, such as stable; empty for the newest version.
        parts: Number of parts that run in parallel.
        min_lesion_ml: Minimum volume of a connected lesion in mL; smaller ones are removed from the mask.
    """
    # First in the function: its parameters are all there is.
    checked = check_parameters(**locals())
    plan_task = plan_parts(source=source, parts=parts).after(checked)
    with dsl.ParallelFor(plan_task.outputs["Output"], name="Parts") as part:
        predicted = predict(
            source=source,
            plan=plan_task.outputs["plan"],
            part=part,
            server=server,
            model=model,
            model_name=model_name,
            version_label=version_label,
            min_lesion_ml=min_lesion_ml,
        )
    collect_predictions(predictions=dsl.Collected(predicted.outputs["predictions"]))
