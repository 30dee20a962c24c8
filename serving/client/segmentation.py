"""Segment CT volumes over TF Serving's gRPC API.

Slices travel as int16 HU on the network's own grid, 16 times fewer bytes than float32 slices of 512×512. The grid size
and the threshold come from the served model; the client has no copy of either.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.ct.grid import axial_slices, volume_from_axial_slices
from components.ct.inference import map_to_native
from components.ct.volume import Volume
from serving.client import messages
from serving.client.endpoint import Endpoint, Method, ServingError
from serving.client.messages import TensorError, to_array, to_tensor
from serving.tls import ClientTls
from serving.versions.contract import GRID_SIGNATURE, INPUT, PROBABILITY, THRESHOLD

_DEFAULT_THRESHOLD = 0.5  # for a model without an output `threshold`
_INT16 = 5  # tensorflow/core/framework/types.proto
_ATTEMPTS = 3  # per volume, when its version is unloaded meanwhile

PREDICT = Method("/tensorflow.serving.PredictionService/Predict", messages.PredictRequest, messages.PredictResponse)
_METADATA = Method(
    "/tensorflow.serving.PredictionService/GetModelMetadata",
    messages.GetModelMetadataRequest,
    messages.GetModelMetadataResponse,
)


@dataclass(frozen=True)
class Prediction:
    """The model's output for one volume."""

    probability: NDArray[np.float32]  # (x, y, z) float32 in RAS+, on the scan's own voxels
    mask: NDArray[np.uint8]  # (x, y, z) uint8, 1 where `probability` is at least `threshold`
    threshold: float  # chosen on validation cases when the model was evaluated
    version: int | None  # the model version that answered, if known

    @classmethod
    def from_slices(cls, probability: NDArray[np.float32], threshold: float, version: int | None) -> "Prediction":
        """Build a prediction from the (n, h, w) probabilities of a volume's axial slices."""
        mask = (probability >= threshold).astype(np.uint8)
        return cls(volume_from_axial_slices(probability), volume_from_axial_slices(mask), threshold, version)


@dataclass(frozen=True)
class NetworkMetadata:
    """The signature `network` of a served model."""

    version: int | None
    grid_size: int
    outputs: frozenset[str]


@dataclass(eq=False)
class SegmentationClient(AbstractContextManager["SegmentationClient"]):
    """A client for a model on TF Serving or a compatible server; use it in a `with` block.

    Args:
        target: `host:port` of the server's gRPC endpoint.
        model: the model's name on the server.
        version: a version number; None for the server's newest.
        version_label: a version label such as `stable`, instead of a number.
        tls: certificates; None for plaintext.
        server_name: the name in the server's certificate; by default the host in `target`.
        proxy: connect through the proxy of the environment, such as `https_proxy`; by default, slices never pass one.
        timeout_s: limit for one request, connection and retries included.
        chunk_bytes: upper bound of the slices in a request or reply; a chunk has at least one slice.
        in_flight: number of chunks in flight at once.

    Raises:
        ValueError: Both `version` and `version_label` are given.
    """

    target: str
    model: str
    _: KW_ONLY
    version: int | None = None
    version_label: str | None = None
    tls: ClientTls | None = None
    server_name: str = ""
    proxy: bool = False
    timeout_s: float = 60.0
    chunk_bytes: int = 2 << 20
    in_flight: int = 3

    def __post_init__(self) -> None:  # noqa: D105
        if self.version is not None and self.version_label:
            raise ValueError(f"version {self.version} and version label {self.version_label!r}: give one of them")
        self._endpoint = Endpoint(self.target, self.timeout_s, self.tls, self.server_name, self.proxy)

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Cancel pending requests and close the connection."""
        self._endpoint.close()

    def predict(self, scan: Volume) -> Prediction:
        """Segment a volume whose voxels are (x, y, z) int16 HU in RAS+; raises `ServingError` if a request fails."""
        return Prediction.from_slices(*self.predict_slices(axial_slices(scan.voxels)))

    def predict_slices(self, slices_hu: NDArray[np.int16]) -> tuple[NDArray[np.float32], float, int | None]:
        """Segment (n, h, w) axial slices in HU; return probability (n, h, w), threshold and model version.

        One version answers all slices. If the server unloads it meanwhile, the client sends the whole volume again.
        """
        for attempts_left in reversed(range(_ATTEMPTS)):
            network = self.fetch_metadata()
            try:
                return self._predict_with(network, slices_hu)
            except ServingError as error:
                unloaded = error.code == "NOT_FOUND" and self.version is None
                if not unloaded or not attempts_left:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def fetch_metadata(self) -> NetworkMetadata:
        """Fetch the version that answers now, with its network's grid and outputs."""
        request = messages.GetModelMetadataRequest(
            model_spec=self._model_spec(self.version), metadata_field=["signature_def"]
        )
        reply = self._endpoint.call(_METADATA, request)
        self._check_answered(reply.model_spec, self.version)
        signatures = messages.SignatureDefMap()
        for entry in reply.metadata:
            if entry.key == "signature_def":
                signatures.ParseFromString(entry.value.value)
        network = {entry.key: entry.value for entry in signatures.signature_def}.get(GRID_SIGNATURE)
        inputs = {entry.key: entry.value for entry in network.inputs} if network else {}
        sizes = [dim.size for dim in inputs[INPUT].tensor_shape.dim] if set(inputs) == {INPUT} else []
        outputs = frozenset(entry.key for entry in network.outputs) if network else frozenset()
        square = len(sizes) == 3 and sizes[1] == sizes[2] > 0
        if not (square and inputs[INPUT].dtype == _INT16 and PROBABILITY in outputs):
            raise self._error(
                f"no signature `{GRID_SIGNATURE}` with input `{INPUT}` (n, size, size) int16 and output "
                f"`{PROBABILITY}`; serve a model that the export step wrote"
            )
        version = reply.model_spec.version.value if reply.model_spec.HasField("version") else None
        return NetworkMetadata(version, sizes[1], outputs)

    def _predict_with(
        self, network: NetworkMetadata, slices_hu: NDArray[np.int16]
    ) -> tuple[NDArray[np.float32], float, int | None]:
        reply_bytes = 4 * network.grid_size**2  # a float32 slice, twice the int16 slice of the request
        chunk_size = max(1, self.chunk_bytes // reply_bytes)
        probability = np.empty(slices_hu.shape, np.float32)
        threshold = _DEFAULT_THRESHOLD

        def predict(chunks: Iterator[NDArray[np.int16]]) -> Iterator[NDArray[np.float32]]:
            nonlocal threshold
            remaining = len(slices_hu)
            requests = (self._request(network, grids_hu) for grids_hu in chunks)
            for reply in self._endpoint.calls(PREDICT, requests, self.in_flight):
                grids, threshold = self._read(reply, network, min(remaining, chunk_size))
                remaining -= len(grids)
                yield grids

        for part, values in map_to_native(predict, slices_hu, network.grid_size, chunk_size):
            probability[part] = values
        return probability, threshold, network.version

    def _request(self, network: NetworkMetadata, grids_hu: NDArray[np.int16]) -> Any:
        output_filter = [PROBABILITY, *({THRESHOLD} & network.outputs)]
        request = messages.PredictRequest(model_spec=self._model_spec(network.version), output_filter=output_filter)
        request.model_spec.signature_name = GRID_SIGNATURE
        request.inputs.add(key=INPUT, value=to_tensor(grids_hu))
        return request

    def _read(self, reply: Any, network: NetworkMetadata, n_slices: int) -> tuple[NDArray, float]:
        """Read and check the (n, size, size) probabilities and the threshold of a reply."""
        self._check_answered(reply.model_spec, network.version)
        outputs = {entry.key: entry.value for entry in reply.outputs}
        threshold = _DEFAULT_THRESHOLD
        try:
            grids = to_array(outputs[PROBABILITY])
            if THRESHOLD in network.outputs:
                threshold = float(to_array(outputs[THRESHOLD]).flat[0])
        except (KeyError, IndexError, TensorError) as error:
            raise self._error(f"the reply does not match the model's metadata ({error})") from error
        expected = (n_slices, network.grid_size, network.grid_size)
        if grids.shape != expected:
            raise self._error(f"`{PROBABILITY}` has shape {grids.shape}; expected {expected}")
        if not (0 <= threshold <= 1 and grids.min() >= 0 and grids.max() <= 1):  # false for NaN
            raise self._error(
                f"the reply has probabilities from {grids.min():g} to {grids.max():g} and threshold {threshold:g}; "
                "expected 0 to 1"
            )
        return grids, threshold

    def _check_answered(self, actual: Any, version: int | None) -> None:
        """Raise `ServingError` if a reply names another model or version than the request; it may name none."""
        name, number = actual.name or self.model, actual.version.value if actual.HasField("version") else version
        if name != self.model or (version is not None and number != version):
            asked = "" if version is None else f" version {version}"
            raise self._error(f"the reply is of model {name} version {number}; expected {self.model}{asked}")

    def _model_spec(self, version: int | None) -> Any:
        spec = messages.ModelSpec(name=self.model)
        if version is not None:
            spec.version.value = version
        elif self.version_label:
            spec.version_label = self.version_label
        return spec

    def _error(self, reason: str) -> ServingError:
        return ServingError(f"{self.target}, model {self.model}: {reason}", "INTERNAL")
