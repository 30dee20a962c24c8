"""Golden volumes: what the evaluation computes in its own process is what a doctor gets over gRPC.

The network is the default recipe's, untrained: its weights are random and its probabilities crowd around the
threshold, where a difference shows in the mask before it would with a trained one.
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
from components.export.signatures import ServedModel
from components.export.warmup import write_warmup_requests
from components.train.network import build_network
from serving.client.segmentation import SegmentationClient
from serving.versions.manifest import write_manifest
from tests.serving.conftest import serving

SIZE, THRESHOLD, NAME = 128, 0.5, "golden"
REAL = Path(__file__).parents[3] / "shared" / "data" / "chest-ct-3d" / "scans"


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    return build_network(SIZE)


@pytest.fixture(scope="module")
def address(network, tmp_path_factory):
    """A server process over an export of the network."""
    base = tmp_path_factory.mktemp("golden")
    ServedModel(network, SIZE, THRESHOLD).save(base / "1")
    write_warmup_requests(base / "1", NAME, SIZE)
    write_manifest(base / "1")
    with serving("--model-base", base, "--model", NAME) as (_, address):
        yield address


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> dict[str, Path]:
    """One scan in HU and one that is 8-bit windowed."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_cohort(folder, 3, seed=0)
    return {read_ct(path)[1].name: path for path in sorted((folder / "scans").iterdir())}


def assert_the_same_answer(path, network, address):
    volume, _ = read_ct(path)
    slices = axial_slices(volume.voxels)
    probability = np.empty(slices.shape, np.float32)
    for part, found in predict_slices(keras_network(network), slices, SIZE):
        probability[part] = found
    expected = volume_from_axial_slices(probability)
    with SegmentationClient(address, NAME) as client:
        served = client.predict(volume)
    assert np.abs(served.probability - expected).max() <= TOLERANCE
    mask = expected >= THRESHOLD
    assert 0.01 < mask.mean() < 0.99  # else any two masks would agree
    assert (served.mask.astype(bool) == mask).mean() >= MASK_AGREEMENT


@pytest.mark.parametrize("intensity", ["HU", "WINDOWED"])
def test_a_phantom_is_served_as_it_is_evaluated(phantoms, intensity, network, address):
    assert_the_same_answer(phantoms[intensity], network, address)


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the real chest CTs are not on this machine")
@pytest.mark.parametrize("name", ["cip_ct64", "elastix_baseline", "imlab_id001"])
def test_a_real_scan_is_served_as_it_is_evaluated(name, network, address):
    assert_the_same_answer(REAL / f"{name}.nii.gz", network, address)
