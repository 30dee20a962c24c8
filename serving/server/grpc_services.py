"""TF Serving's two gRPC services over the models of this server."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.server.batching import Arrays
from serving.server.errors import RequestError, invalid
from serving.server.models import ModelRequest, Models, Status
from serving.server.predictor import Predictor
from serving.server.reply_tensors import write_as_content, write_as_fields
from serving.server.request_tensors import arrays_from_protos, check_names
from serving.versions.model_config import from_message


@contextmanager
def _refusals(context: Any) -> Iterator[None]:
    """Answer a RequestError with its status."""
    try:
        yield
    except RequestError as refusal:
        context.abort(refusal.code, str(refusal))


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata."""

    def __init__(self, models: Models, predictor: Predictor, tensor_content: bool) -> None:
        self._models = models
        self._predictor = predictor
        self._write = write_as_content if tensor_content else write_as_fields

    def Predict(self, request: Any, context: Any) -> Any:
        """Run a signature on the request's tensors."""
        with _refusals(context), self._predictor.counted(request.model_spec.name, "GRPC"):
            asked = _asked(request)

            def read(signature: Any) -> Arrays:
                check_names(signature, request.inputs, list(request.output_filter))
                return arrays_from_protos(signature, request.inputs)

            answer = self._predictor.predict(
                asked, request.model_spec.signature_name, read, list(request.output_filter), context.is_active
            )
        reply = predict_pb2.PredictResponse()
        _name(reply.model_spec, asked.name, answer.version, answer.signature)
        for name, array in answer.outputs.items():
            self._write(array, reply.outputs[name])
        return reply

    def GetModelMetadata(self, request: Any, context: Any) -> Any:
        """Publish the signatures of a version."""
        with _refusals(context):
            asked = _asked(request)
            if not request.metadata_field:
                raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
            for field in request.metadata_field:
                if field != "signature_def":
                    raise invalid(f"Metadata field {field} is not supported")
            version, saved_model = self._models.choose(asked)
        reply = get_model_metadata_pb2.GetModelMetadataResponse()
        _name(reply.model_spec, asked.name, version, "")
        reply.metadata["signature_def"].Pack(signature_map(saved_model.signatures))
        return reply


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus and HandleReloadConfigRequest."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def GetModelStatus(self, request: Any, context: Any) -> Any:
        """Say where each version stands."""
        with _refusals(context):
            return status_reply(self._models.statuses(_asked(request)))

    def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:
        """Serve what the request lists instead of what was served before, or change nothing and say why."""
        with _refusals(context):
            try:
                configs = from_message(request.config)
            except ValueError as error:
                raise invalid(str(error)) from error
            self._models.reload(configs)
        reply = model_management_pb2.ReloadConfigResponse()
        reply.status.error_code = tf.errors.OK
        return reply


def signature_map(signatures: Any) -> Any:
    """SignatureDefs by name as the message that GetModelMetadata holds."""
    message = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in signatures.items():
        message.signature_def[name].CopyFrom(signature)
    return message


def status_reply(statuses: dict[int, Status]) -> Any:
    """The reply of GetModelStatus, the newest version first as TF Serving lists them."""
    reply = get_model_status_pb2.GetModelStatusResponse()
    for version, status in sorted(statuses.items(), reverse=True):
        entry = reply.model_version_status.add(version=version, state=int(status.state))
        entry.status.error_code = tf.errors.UNKNOWN if status.error else tf.errors.OK
        entry.status.error_message = status.error
    return reply


def _asked(request: Any) -> ModelRequest:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    spec = request.model_spec
    return ModelRequest(spec.name, spec.version.value if spec.HasField("version") else None, spec.version_label)


def _name(spec: Any, model: str, version: int, signature: str) -> None:
    spec.name, spec.signature_name = model, signature
    spec.version.value = version
