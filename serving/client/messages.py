"""TF Serving's messages as far as a client needs them, without importing TensorFlow (which takes ten seconds).

Names, numbers and types are those of tensorflow/serving/apis/{model,predict,get_model_metadata}.proto and
tensorflow/core/{framework/tensor,framework/tensor_shape,protobuf/meta_graph}.proto. Three things are declared
otherwise, with the same bytes on the wire: maps are repeated entries, enums are int32, and the packed number
fields of a tensor are bytes, so that numpy reads a million probabilities without a million Python floats.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_SCHEMA = {
    "Int64Value": ["int64 value = 1"],
    "Any": ["string type_url = 1", "bytes value = 2"],
    "ModelSpec": [
        "string name = 1",
        "Int64Value version = 2",
        "string signature_name = 3",
        "string version_label = 4",
    ],
    "Dim": ["int64 size = 1"],
    "TensorShapeProto": ["repeated Dim dim = 2", "bool unknown_rank = 3"],
    "TensorProto": [
        "int32 dtype = 1",
        "TensorShapeProto tensor_shape = 2",
        "bytes tensor_content = 4",
        "repeated bytes float_val = 5",
        "repeated bytes double_val = 6",
        "repeated bytes int_val = 7",
    ],
    "InputsEntry": ["string key = 1", "TensorProto value = 2"],
    "PredictRequest": [
        "ModelSpec model_spec = 1",
        "repeated InputsEntry inputs = 2",
        "repeated string output_filter = 3",
    ],
    "PredictResponse": ["repeated InputsEntry outputs = 1", "ModelSpec model_spec = 2"],
    "GetModelMetadataRequest": ["ModelSpec model_spec = 1", "repeated string metadata_field = 2"],
    "MetadataEntry": ["string key = 1", "Any value = 2"],
    "GetModelMetadataResponse": ["ModelSpec model_spec = 1", "repeated MetadataEntry metadata = 2"],
    "TensorInfo": ["string name = 1", "int32 dtype = 2", "TensorShapeProto tensor_shape = 3"],
    "TensorInfoEntry": ["string key = 1", "TensorInfo value = 2"],
    "SignatureDef": [
        "repeated TensorInfoEntry inputs = 1",
        "repeated TensorInfoEntry outputs = 2",
        "string method_name = 3",
    ],
    "SignatureDefEntry": ["string key = 1", "SignatureDef value = 2"],
    "SignatureDefMap": ["repeated SignatureDefEntry signature_def = 1"],
}
_PACKAGE = "lung_ct_client"  # its own, so that TensorFlow's generated classes can live in the same process
_Field = descriptor_pb2.FieldDescriptorProto


def _declare(schema: dict[str, list[str]]) -> dict[str, Any]:
    """Turn `[repeated] type name = number` lines into message classes, in a pool of their own."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto3")
    for message_name, lines in schema.items():
        message = file.message_type.add(name=message_name)
        for line in lines:
            *repeated, kind, name, _, number = line.split()
            field = message.field.add(name=name, number=int(number))
            field.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            if kind in schema:
                field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                field.type = _Field.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in schema}


_messages = _declare(_SCHEMA)
ModelSpec = _messages["ModelSpec"]
TensorProto = _messages["TensorProto"]
PredictRequest = _messages["PredictRequest"]
PredictResponse = _messages["PredictResponse"]
GetModelMetadataRequest = _messages["GetModelMetadataRequest"]
GetModelMetadataResponse = _messages["GetModelMetadataResponse"]
SignatureDefMap = _messages["SignatureDefMap"]
