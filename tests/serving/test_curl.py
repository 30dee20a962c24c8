"""The `curl` examples of TensorFlow Serving's documentation and of ours, against the embedded server."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import tensorflow as tf

from serving.server.server import Server, Settings
from serving.versions.model_config import ModelConfig
from tests.serving.toy import MODEL

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
DOCS = Path(__file__).parents[2] / "docs" / "serving.md"
# https://www.tensorflow.org/tfx/serving/api_rest, "Example": commands and responses
STATUS = {"version": "123", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
TF_SERVING_EXAMPLES = {
    "curl http://localhost:8501/v1/models/half_plus_three": {"model_version_status": [STATUS]},
    """curl -d '{"instances": [1.0,2.0,5.0]}' -X POST http://localhost:8501/v1/models/half_plus_three:predict""": {
        "predictions": [3.5, 4.0, 5.5]
    },
    """curl -d '{"inputs": [1.0,2.0,5.0]}' http://localhost:8501/v1/models/half_plus_three/versions/123:predict""": {
        "outputs": [3.5, 4.0, 5.5]
    },
}


@pytest.fixture(scope="module")
def port(model_folder, tmp_path_factory):
    """The REST port of a server of TF Serving's half_plus_three and the toy network."""
    base = tmp_path_factory.mktemp("half_plus_three")
    module = tf.Module()
    module.half_plus_three = tf.function(
        lambda x: {"y": 0.5 * x + 3}, input_signature=[tf.TensorSpec((None,), tf.float32, name="x")]
    )
    tf.saved_model.save(module, str(base / "123"), signatures=module.half_plus_three.get_concrete_function())
    configs = ModelConfig("half_plus_three", str(base)), ModelConfig(MODEL, str(model_folder))
    server = Server(Settings(models=configs, port=0, rest_port=0))
    yield server.rest_address.rpartition(":")[2]
    server.stop()


def curl(command, port):
    arguments = shlex.split(command.replace("localhost:8501", f"127.0.0.1:{port}"))
    done = subprocess.run([*arguments, "-sS", "--fail-with-body"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("command", TF_SERVING_EXAMPLES, ids=["status", "instances", "inputs"])
def test_the_examples_of_tf_serving_return_the_documented_responses(port, command):
    assert curl(command, port) == TF_SERVING_EXAMPLES[command]


def test_metadata_lists_version_and_signatures(port):
    metadata = curl("curl http://localhost:8501/v1/models/half_plus_three/metadata", port)
    assert metadata["model_spec"] == {"name": "half_plus_three", "signature_name": "", "version": "123"}
    assert "serving_default" in metadata["metadata"]["signature_def"]["signature_def"]


def test_the_documented_examples_work(port):
    commands = re.findall(r"^curl .*", DOCS.read_text(), re.MULTILINE)
    assert len(commands) >= 3
    responses = [curl(command.replace("lung-infection", MODEL), port) for command in commands]
    (row,) = responses[-1]["predictions"]
    assert [len(line) for line in row["lesion_probability"]] == [2, 2]
