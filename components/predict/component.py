"""The KFP interfaces of batch prediction: deal the scans out, segment a part, bring all together."""

from typing import List  # noqa: UP035 (kfp reads the annotation by this name)

from kfp import dsl

from components import images


@dsl.component(base_image=images.CPU, install_kfp_package=False)
def plan_shards(source: str, shards: int = 4) -> List[str]:  # noqa: UP006
    """Find the scans and deal them out to parts that are segmented side by side.

    Args:
        source: A folder of scans that every step can read, or gs://bucket/prefix.
        shards: Number of parts.
    """
    from components.ct.errors import told_in_one_line

    with told_in_one_line():
        from components.predict import batch

        return batch.plan_shards(source, shards)


@dsl.component(base_image=images.CPU, install_kfp_package=False)
def predict(
    source: str,
    scans: str,
    predictions: dsl.Output[dsl.Artifact],
    server: str = "",
    model: str = "",
    model_name: str = "lung-infection",
    label: str = "",
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
        label: Version label on the server, such as stable; empty for the newest.
        min_lesion_ml: Connected lesions under this volume are left out.
    """
    import json
    from pathlib import Path

    from components.ct.errors import told_in_one_line

    with told_in_one_line():
        from components.predict import batch

        served = batch.Served(server, model, model_name, label)
        rows = batch.predict_shard(source, json.loads(scans), served, Path(predictions.path), min_lesion_ml)
        predictions.metadata["scans"] = len(rows)


@dsl.component(base_image=images.CPU, install_kfp_package=False)
def gather(
    predictions: dsl.Input[List[dsl.Artifact]],  # noqa: UP006
    results: dsl.Output[dsl.Artifact],
    gallery: dsl.Output[dsl.HTML],
) -> None:
    """Bring the parts together.

    Args:
        predictions: Masks, previews and tables of all parts.
        results: masks/ and summary.csv of all scans.
        gallery: A page to look through them.
    """
    from pathlib import Path

    from components.ct.errors import told_in_one_line

    with told_in_one_line():
        from components.predict import batch

        rows = batch.gather([Path(part.path) for part in predictions], Path(results.path), Path(gallery.path))
        results.metadata["scans"] = len(rows)
        results.metadata["failed"] = sum(bool(row["error"]) for row in rows)
