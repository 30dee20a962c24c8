"""A CT volume in, a lesion mask out, over TF Serving's gRPC API.

Slices travel as int16 HU on the network's own grid, 16 times fewer bytes than float32 slices of 512×512. The
grid's size and the threshold come from the served model, so the client holds no copy of either.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from components.ct.grid import axial_slices, volume_from_axial_slices
from components.ct.inference import map_to_native
from components.ct.volume import Volume
from serving.client import messages
from serving.client.endpoint import Endpoint, Method, ServingError
from serving.client.tensors import TensorError, to_array, to_tensor
from serving.tls import ClientTls
from serving.versions.contract import GRID_SIGNATURE, INPUT, PROBABILITY, THRESHOLD

_DEFAULT_THRESHOLD = 0.5  # for a model that publishes none
_INT16 = 5  # tensorflow/core/framework/types.proto
_VERSION_CHANGES = 3  # how often a volume starts again because its version was unloaded meanwhile

PREDICT = Method("/tensorflow.serving.PredictionService/Predict", messages.PredictRequest, messages.PredictResponse)
_METADATA = Method(
    "/tensorflow.serving.PredictionService/GetModelMetadata",
    messages.GetModelMetadataRequest,
    messages.GetModelMetadataResponse,
)


@dataclass(frozen=True)
class Prediction:
    """What the model says of one volume.

    Attributes:
        probability: (x, y, z) float32 in RAS+, on the scan's own voxels.
        mask: (x, y, z) uint8, 1 where `probability` is at least `threshold`.
        threshold: chosen on validation cases when the model was evaluated.
        version: the model version that answered, where the server names it.
    """

    probability: NDArray[np.float32]
    mask: NDArray[np.uint8]
    threshold: float
    version: int | None


@dataclass(frozen=True)
class ServedNetwork:
    """What the server says of the model version that a volume is sent to."""

    version: int | None
    grid_size: int
    outputs: frozenset[str]


class SegmentationClient:
    """Segments volumes with a model that TF Serving, or a server that speaks as it does, has loaded.

    Args:
        target: `host:port` of the server's gRPC endpoint.
        model: the model's name on the server.
        version: a version number; by default the one that the server prefers, its newest.
        label: a version label such as `stable`, instead of a number.
        tls: certificates; None for plaintext.
        timeout_s: what one request may take, connection and retries included.
        chunk_bytes: upper bound of a request's and of a reply's slices; at least one slice is sent.
        in_flight: how many chunks are on their way at once.

    Raises:
        ValueError: Both a version and a label are given.
    """

    def __init__(
        self,
        target: str,
        model: str,
        *,
        version: int | None = None,
        label: str = "",
        tls: ClientTls | None = None,
        timeout_s: float = 60.0,
        chunk_bytes: int = 2 << 20,
        in_flight: int = 3,
    ) -> None:
        if version is not None and label:
            raise ValueError("a version number or a label, not both")
        self.target = target
        self.model = model
        self.version = version
        self.label = label
        self.timeout_s = timeout_s
        self.chunk_bytes = chunk_bytes
        self.in_flight = in_flight
        self._endpoint = Endpoint(target, timeout_s, tls)

    def __enter__(self) -> Self:
        """Stay connected until the `with` block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection; requests under way are canceled."""
        self._endpoint.close()

    def predict(self, scan: Volume) -> Prediction:
        """Segment a volume whose voxels are (x, y, z) int16 HU in RAS+.

        Raises:
            ServingError: The server cannot be reached, refuses, or answers what it should not.
        """
        probability, threshold, version = self.predict_slices(axial_slices(scan.voxels))
        mask = (probability >= threshold).astype(np.uint8)
        return Prediction(volume_from_axial_slices(probability), volume_from_axial_slices(mask), threshold, version)

    def predict_slices(self, slices_hu: NDArray) -> tuple[NDArray[np.float32], float, int | None]:
        """Segment (n, h, w) axial slices in HU: probability (n, h, w), threshold and model version.

        All slices are answered by one version, even while the server replaces it: where the version goes
        away in between, the whole volume is sent again to its successor.
        """
        for attempts_left in reversed(range(_VERSION_CHANGES)):
            network = self.served_network()
            try:
                return self._predict_with(network, slices_hu)
            except ServingError as error:
                unloaded = error.code == "NOT_FOUND" and self.version is None
                if not unloaded or not attempts_left:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def served_network(self) -> ServedNetwork:
        """Ask the server which version answers now, and for the grid and the outputs of its network."""
        request = messages.GetModelMetadataRequest(
            model_spec=self._model_spec(self.version), metadata_field=["signature_def"]
        )
        reply = self._endpoint.call(_METADATA, request)
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
            raise self._unexpected(
                f"its model has no signature `{GRID_SIGNATURE}` that takes `{INPUT}` (n, size, size) int16 and "
                f"returns `{PROBABILITY}`; serve a model that the export step of this project wrote"
            )
        version = reply.model_spec.version.value if reply.model_spec.HasField("version") else None
        return ServedNetwork(version, sizes[1], outputs)

    def _predict_with(
        self, network: ServedNetwork, slices_hu: NDArray
    ) -> tuple[NDArray[np.float32], float, int | None]:
        probability = np.empty(slices_hu.shape, np.float32)
        threshold = _DEFAULT_THRESHOLD

        def predict(chunks: Iterator[NDArray[np.int16]]) -> Iterator[NDArray[np.float32]]:
            nonlocal threshold
            lengths: deque[int] = deque()

            def requests() -> Iterator[Any]:
                for grids_hu in chunks:
                    lengths.append(len(grids_hu))
                    yield self._request(network, grids_hu)

            for reply in self._endpoint.calls(PREDICT, requests(), self.in_flight):
                grids, threshold = self._read(reply, network, lengths.popleft())
                yield grids

        reply_bytes = 4 * network.grid_size**2  # a slice of float32, twice the int16 of the request
        chunk_size = max(1, self.chunk_bytes // reply_bytes)
        for part, values in map_to_native(predict, slices_hu, network.grid_size, chunk_size):
            probability[part] = values
        return probability, threshold, network.version

    def _request(self, network: ServedNetwork, grids_hu: NDArray[np.int16]) -> Any:
        wanted = [PROBABILITY, *({THRESHOLD} & network.outputs)]
        request = messages.PredictRequest(model_spec=self._model_spec(network.version), output_filter=wanted)
        request.model_spec.signature_name = GRID_SIGNATURE
        request.inputs.add(key=INPUT, value=to_tensor(grids_hu))
        return request

    def _read(self, reply: Any, network: ServedNetwork, n_slices: int) -> tuple[NDArray, float]:
        """Take the (n, size, size) probabilities and the threshold out of a reply."""
        outputs = {entry.key: entry.value for entry in reply.outputs}
        threshold = _DEFAULT_THRESHOLD
        try:
            grids = to_array(outputs[PROBABILITY])
            if THRESHOLD in network.outputs:
                threshold = float(to_array(outputs[THRESHOLD]).flat[0])
        except (KeyError, IndexError, TensorError) as error:
            raise self._unexpected(f"the reply to a prediction is not as its metadata says ({error})") from error
        if grids.shape != (n_slices, network.grid_size, network.grid_size):
            raise self._unexpected(f"`{PROBABILITY}` came back for {n_slices} slices with shape {grids.shape}")
        if not (np.isfinite(grids).all() and np.isfinite(threshold)):
            raise self._unexpected("it answered numbers that are not finite")
        return grids, threshold

    def _model_spec(self, version: int | None) -> Any:
        spec = messages.ModelSpec(name=self.model)
        if version is not None:
            spec.version.value = version
        elif self.label:
            spec.version_label = self.label
        return spec

    def _unexpected(self, what: str) -> ServingError:
        return ServingError(f"{self.target}, model {self.model}: {what}", "INTERNAL")
