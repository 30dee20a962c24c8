"""TF Serving's two gRPC services, and the status with which a failed call ends."""

import threading
from collections.abc import Callable
from typing import Any

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataResponse, SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigResponse
from tensorflow_serving.apis.predict_pb2 import PredictResponse

from serving.server.batching import Arrays, ByteBudget
from serving.server.errors import RequestError, error_text, invalid_argument, resource_exhausted, to_request_error
from serving.server.model import ModelRequest, Status
from serving.server.models import ModelRegistry
from serving.server.predictor import Predictor
from serving.server.tensors import check_names, read_tensors, write_as_content, write_as_fields
from serving.versions.model_config import from_message

_MAX_BYTES = 4 << 20  # of a message other than Predict's; gRPC's default


class CallGuard(grpc.ServerInterceptor):
    """Ends every failed call with a status, and counts the calls in progress.

    Args:
        max_bytes: most bytes of the messages of all calls in progress.
    """

    def __init__(self, max_bytes: int = 1 << 28) -> None:
        self._budget = ByteBudget(max_bytes)
        self._refuses = False
        self._calls = 0
        self._condition = threading.Condition()

    def refuse_calls(self) -> None:
        """Answer new calls with UNAVAILABLE, which clients repeat elsewhere; gRPC's own `stop` cancels some."""
        self._refuses = True

    def wait_until_idle(self, timeout_s: float) -> None:
        """Wait until no call is in progress, or the time is up."""
        with self._condition:
            self._condition.wait_for(lambda: not self._calls, timeout_s)

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Wrap the handler of a method; streams, which only the health service has, stay as they are."""
        handler = continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler
        if self._refuses:
            stopping = grpc.StatusCode.UNAVAILABLE, "the server is stopping"
            return grpc.unary_unary_rpc_method_handler(lambda _, context: context.abort(*stopping))

        def call(message: bytes, context: Any) -> Any:
            self._count(1)
            try:
                if len(message) > _MAX_BYTES and not details.method.endswith("/Predict"):
                    raise resource_exhausted(f"expected a message of at most {_MAX_BYTES} bytes, got {len(message)}")
                with self._budget.reserve(len(message)):  # parsed, numbers take up to twelve times as much
                    return handler.unary_unary(handler.request_deserializer(message), context)
            except DecodeError:
                failure = RequestError(grpc.StatusCode.INTERNAL, "the request is not a message of this method")
            except Exception as error:
                failure = to_request_error(error).with_traceback(None)  # whose frames hold the request
            finally:
                self._count(-1)
            return context.abort(failure.code, error_text(failure))

        # Without a deserializer, gRPC passes bytes: a message that cannot be parsed is an error of `call`.
        return grpc.unary_unary_rpc_method_handler(call, None, handler.response_serializer)

    def _count(self, change: int) -> None:
        with self._condition:
            self._calls += change
            self._condition.notify_all()


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

        with self._predictor.measure(spec.name, "GRPC"):
            result = self._predictor.predict(
                _model_request(request), spec.signature_name, read_inputs, output_filter, context.is_active
            )
        response = PredictResponse(model_spec=_model_spec(spec.name, result.version, result.signature_name))
        outputs = dict(result.outputs)
        del result
        while outputs:  # each array is freed before the next one is copied
            name, array = outputs.popitem()
            self._write(array, response.outputs[name])
        return response

    def GetModelMetadata(self, request: Any, context: Any) -> Any:
        """Return the signatures of a version."""
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
        return status_response(self._models.statuses(_model_request(request)))

    def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:
        """Replace the served models by those of the request, or change nothing and return the reason."""
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
        details = {"error_code": status.error_code, "error_message": status.error}
        response.model_version_status.add(version=version, state=status.state, status=details)
    return response


def _model_request(request: Any) -> ModelRequest:
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    spec = request.model_spec
    return ModelRequest(spec.name, spec.version.value if spec.HasField("version") else None, spec.version_label)


def _model_spec(name: str, version: int, signature_name: str = "") -> dict[str, Any]:
    return {"name": name, "version": {"value": version}, "signature_name": signature_name}
