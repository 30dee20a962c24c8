"""TF Serving's two gRPC services."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataResponse, SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigResponse
from tensorflow_serving.apis.predict_pb2 import PredictResponse

from serving.server.batching import Arrays
from serving.server.errors import RequestError, invalid_argument
from serving.server.model import ModelRequest, Status
from serving.server.models import ModelRegistry
from serving.server.predictor import Predictor
from serving.server.tensors import check_names, read_tensors, write_as_content, write_as_fields
from serving.versions.model_config import from_message


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata."""

    def __init__(self, models: ModelRegistry, predictor: Predictor, tensor_content: bool) -> None:
        self._models = models
        self._predictor = predictor
        self._write = write_as_content if tensor_content else write_as_fields

    def Predict(self, request: Any, context: Any) -> Any:
        """Run a signature on the request's tensors."""
        spec, output_filter = request.model_spec, list(request.output_filter)

        def read_inputs(signature: Any) -> Arrays:
            check_names(signature, request.inputs, output_filter)
            return read_tensors(signature, request.inputs)

        with _abort_on_request_error(context), self._predictor.measure(spec.name, "GRPC"):
            result = self._predictor.predict(
                _model_request(request), spec.signature_name, read_inputs, output_filter, context.is_active
            )
        response = PredictResponse(model_spec=_model_spec(spec.name, result.version, result.signature_name))
        for name, array in result.outputs.items():
            self._write(array, response.outputs[name])
        return response

    def GetModelMetadata(self, request: Any, context: Any) -> Any:
        """Return the signatures of a version."""
        with _abort_on_request_error(context):
            model_request = _model_request(request)
            if not request.metadata_field:
                raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
            for field in request.metadata_field:
                if field != "signature_def":
                    raise invalid_argument(f"Metadata field {field} is not supported")
            version, model = self._models.resolve(model_request)
        response = GetModelMetadataResponse(model_spec=_model_spec(model_request.name, version))
        response.metadata["signature_def"].Pack(SignatureDefMap(signature_def=model.signatures))
        return response


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus and HandleReloadConfigRequest."""

    def __init__(self, models: ModelRegistry) -> None:
        self._models = models

    def GetModelStatus(self, request: Any, context: Any) -> Any:
        """Return the state of each version."""
        with _abort_on_request_error(context):
            return status_response(self._models.statuses(_model_request(request)))

    def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:
        """Replace the served models by those of the request, or change nothing and return the reason."""
        with _abort_on_request_error(context):
            try:
                configs = from_message(request.config)
            except ValueError as error:
                raise invalid_argument(str(error)) from error
            self._models.reload(configs)
        return ReloadConfigResponse(status={"error_code": tf.errors.OK})


def status_response(statuses: dict[int, Status]) -> Any:
    """Build the response of GetModelStatus, newest version first like TF Serving."""
    response = GetModelStatusResponse()
    for version, status in sorted(statuses.items(), reverse=True):
        code = tf.errors.UNKNOWN if status.error else tf.errors.OK
        details = {"error_code": code, "error_message": status.error}
        response.model_version_status.add(version=version, state=status.state, status=details)
    return response


@contextmanager
def _abort_on_request_error(context: Any) -> Iterator[None]:
    """Answer with the status of a `RequestError`."""
    try:
        yield
    except RequestError as error:
        context.abort(error.code, str(error))


def _model_request(request: Any) -> ModelRequest:
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    spec = request.model_spec
    return ModelRequest(spec.name, spec.version.value if spec.HasField("version") else None, spec.version_label)


def _model_spec(name: str, version: int, signature_name: str = "") -> dict[str, Any]:
    return {"name": name, "version": {"value": version}, "signature_name": signature_name}
