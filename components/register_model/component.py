"""The KFP interface of the register-model step."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.CPU, install_kfp_package=False)
def register_model(
    evaluation: dsl.Input[dsl.Artifact],
    metrics: dsl.Input[dsl.Metrics],
    version_dir: str,
    manifest_sha256: str,
    model_registry: str,
    model_name: str = "lung-infection",
    data_license: str = "not stated",
    run_id: str = "",
    run_name: str = "",
) -> None:
    """Register an exported version in Kubeflow's Model Registry.

    The version's number is its name in the registry. Registering it again changes nothing, so the step can be retried.

    Args:
        evaluation: The verdict, from evaluate.
        metrics: The test scores, from evaluate.
        version_dir: Path or URI of the version folder, from export.
        manifest_sha256: SHA-256 of the version's manifest, from export.
        model_registry: Address of the registry, such as http://model-registry-service.kubeflow.svc:8080.
        model_name: Name under which the model is served and registered.
        data_license: License of the scans.
        run_id: Id of the pipeline run that trained the model.
        run_name: Name of that run.
    """
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.evaluate.verdict import read_verdict
        from components.register_model.registration import SCORES, Registration, register
        from serving.versions.layout import VERDICT_FILE

        verdict = read_verdict(Path(evaluation.path) / VERDICT_FILE)
        scores = {name: metrics.metadata[name] for name in SCORES if name in metrics.metadata}
        facts = {"verdict": verdict.verdict, "model_sha256": verdict.model_sha256, "data_license": data_license}
        properties = {**scores, **facts}
        register(Registration(model_name, version_dir, manifest_sha256, properties, run_id, run_name), model_registry)
