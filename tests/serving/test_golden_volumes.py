"""Golden volumes: evaluate, in its own process, and a gRPC client get the same prediction.

The network is the default recipe's, untrained: its probabilities crowd around the threshold, where a difference
changes the mask sooner than with a trained network.
"""

from pathlib import Path

import keras
import numpy as np
import pytest

from components.ct.grid import axial_slices, volume_from_axial_slices
from components.ct.inference import keras_network, predict_slices
from components.ct.intensity import read_ct
from components.ct.phantom import write_cohort
from components.export.parity import MASK_AGREEMENT, TOLERANCE
from components.export.signatures import ServedModel, write_warmup_requests
from components.train.network import build_network
from serving.client.segmentation import SegmentationClient
from serving.server.process import server_process
from serving.versions.manifest import write_manifest

SIZE, THRESHOLD, NAME = 128, 0.5, "golden"
REAL = Path(__file__).parents[3] / "shared" / "data" / "chest-ct-3d" / "scans"


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    return build_network(SIZE)


@pytest.fixture(scope="module")
def address(network, tmp_path_factory):
    """Address of a server process with an export of the network."""
    base = tmp_path_factory.mktemp("golden")
    ServedModel(network, SIZE, THRESHOLD).save(base / "1")
    write_warmup_requests(base / "1", NAME, SIZE)
    write_manifest(base / "1")
    with server_process(base, NAME) as address:
        yield address


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> dict[str, Path]:
    """One scan in HU and one that is 8-bit windowed."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_cohort(folder, 3, seed=0)
    return {read_ct(path)[1].name: path for path in sorted((folder / "scans").iterdir())}


def assert_same_prediction(path, network, address):
    volume, _ = read_ct(path)
    slices = axial_slices(volume.voxels)
    probability = np.empty(slices.shape, np.float32)
    for part, values in predict_slices(keras_network(network), slices, SIZE):
        probability[part] = values
    expected = volume_from_axial_slices(probability)
    with SegmentationClient(address, NAME) as client:
        served = client.predict(volume)
    assert np.abs(served.probability - expected).max() <= TOLERANCE
    mask = expected >= THRESHOLD
    assert 0.01 < mask.mean() < 0.99  # or any two masks would agree
    assert (served.mask.astype(bool) == mask).mean() >= MASK_AGREEMENT


@pytest.mark.parametrize("intensity", ["HU", "WINDOWED"])
def test_a_phantom_gets_the_same_prediction_from_the_server(phantoms, intensity, network, address):
    assert_same_prediction(phantoms[intensity], network, address)


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the real chest CTs are absent")
@pytest.mark.parametrize("name", ["cip_ct64", "elastix_baseline", "imlab_id001"])
def test_a_real_scan_gets_the_same_prediction_from_the_server(name, network, address):
    assert_same_prediction(REAL / f"{name}.nii.gz", network, address)
