"""The artifact of the export step, by the rules of KFP's launcher."""

import json
from pathlib import Path

import pytest
from kfp.dsl import executor
from kfp.dsl.types import artifact_types

from components.export.component import export
from components.runtime.files import sha256_of
from tests.export.exportable import small_network, verdict_digest, write_exportable
from tests.storage.gcs_server import BUCKET

# GetPipelineRoot in metadata/client.go: the pipeline root, the pipeline's name and the run's id.
RUN_ROOT = "gs://cluster/root/lung-infection-training/5f0c"


def upload(uri: str, mounts: Path) -> str | None:
    """What the launcher uploads for an output artifact: uploadOutputArtifacts in launcher_v2.go (2.17.0)."""
    scheme = next((scheme for scheme in ("gs://", "minio://", "s3://") if uri.startswith(scheme)), None)
    if scheme is None:  # LocalPathForURI: "does not have a recognized storage URI"; recorded as it is
        return None
    if not uri.startswith(RUN_ROOT):  # KeyFromURI in objectstore/config.go; the step fails
        raise ValueError(f"URI {uri!r} does not have expected bucket prefix {RUN_ROOT!r}")
    return uri if (mounts / uri.removeprefix(scheme)).exists() else None  # "allow components to not produce files"


@pytest.mark.parametrize("in_bucket", [False, True])
def test_the_launcher_records_the_version_and_uploads_no_copy(gcs, tmp_path, monkeypatch, in_bucket):
    monkeypatch.setattr(artifact_types, "_GCS_LOCAL_MOUNT_PREFIX", f"{tmp_path}/gcs/")
    base = f"gs://{BUCKET}/models/lung" if in_bucket else str(tmp_path / "models" / "lung")
    inputs = write_exportable(tmp_path, small_network())
    artifacts = {name: {"artifacts": [{"name": name, "uri": str(path)}]} for name, path in inputs.items()}
    run_uri = f"{RUN_ROOT}/export/salt/version"
    output = tmp_path / "output_metadata.json"
    parameters = {"model_base": base, "model_name": "lung", "verdict_sha256": verdict_digest(inputs)}
    executor_input = {
        "inputs": {"artifacts": artifacts, "parameterValues": parameters},
        "outputs": {"artifacts": {"version": {"artifacts": [{"uri": run_uri}]}}, "outputFile": str(output)},
    }
    executor.Executor(executor_input, export.python_func).execute()
    written = json.loads(output.read_text())
    (version,) = written["artifacts"]["version"]["artifacts"]
    assert upload(version["uri"], tmp_path / "gcs") is None
    location = f"{base}/1"
    assert version["uri"] == (run_uri if in_bucket else location)
    metadata = version["metadata"]
    assert (metadata["location"], metadata["version"], metadata["verdict"]) == (location, "1", "pass")
    assert metadata["test_dice"] == 0.8
    assert metadata["model_sha256"] == sha256_of(inputs["model"] / "model.keras")
    assert written["parameterValues"] == {"version_dir": location, "manifest_sha256": metadata["manifest_sha256"]}
    if not in_bucket:
        assert metadata["manifest_sha256"] == sha256_of(Path(location) / "assets.extra" / "MANIFEST.sha256")
