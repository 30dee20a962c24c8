"""Time the evaluation of a 512×512×300 case: the bare network, the whole case, and each part.

Run: python -m tests.bench.evaluate_time [rounds]
"""

import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from components.ct.cases import Case
from components.ct.grid import fit_hu
from components.ct.inference import BATCH_SIZE, keras_network, predict_grids, predict_slices
from components.ct.lesions import detect_lesions
from components.ct.round_trip import round_trip_dice
from components.ct.surface import surface_agreement
from components.evaluate.labeled_scan import LabeledScan
from components.evaluate.levels import LevelCounts
from components.evaluate.scores import score_case
from components.report.slice_image import largest_lesion_slice, overlay_svg
from components.runtime.files import sha256_of
from components.train.network import build_network

SIZE = 128
SECONDS: dict[str, tuple[float, float]] = {}


def write_case(folder: Path) -> Case:
    """Write two lungs with some twenty lesions in 3 % of the scan, 0.7 × 0.7 × 1 mm voxels, stored as int16."""
    draw = np.random.default_rng(0)
    coarse = ndimage.gaussian_filter(draw.standard_normal((128, 128, 75)), 4)
    lungs = np.zeros(coarse.shape, bool)
    lungs[15:60, 30:100, 8:68] = lungs[68:113, 30:100, 8:68] = True
    lesion = lungs & (coarse > np.quantile(coarse[lungs], 0.88))
    mask = np.kron(lesion, np.ones((4, 4, 4), bool))
    scan = np.where(np.kron(lungs, np.ones((4, 4, 4), bool)), -800, 30).astype(np.int16)
    scan[mask] = -300
    scan += draw.integers(-40, 40, scan.shape, dtype=np.int16)
    affine = np.diag([-0.7, 0.7, 1.0, 1.0])
    for name, voxels in (("scan", scan), ("mask", mask.astype(np.uint8))):
        nib.save(nib.Nifti1Image(voxels, affine), folder / f"{name}.nii.gz")
    digests = (sha256_of(folder / f"{name}.nii.gz") for name in ("scan", "mask"))
    return Case("bench", "bench", "bench", "scan.nii.gz", "mask.nii.gz", "hu", *digests)


def timed(what: str, function, *arguments, **options):
    """Call a function, print its wall and CPU seconds, and return its result."""
    started, busy = time.perf_counter(), time.process_time()
    result = function(*arguments, **options)
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    print(f"  {what:34s} {seconds:6.2f} s {busy:6.2f} CPU s", flush=True)
    SECONDS[what] = seconds, busy
    return result


def compare(folder: Path, case: Case, scan: LabeledScan, size: int, rounds: int) -> None:
    """Time the bare network and the whole case on one grid."""
    network = keras_network(build_network(size))

    def network_and_threshold(slices_hu):
        network(slices_hu)  # for its time; the output of an untrained network would be noise
        return ((slices_hu > -600) & (slices_hu < -150)).astype(np.float32) * 0.9

    print(f"on {size}×{size}:")
    grids = fit_hu(scan.slices_hu, size)
    batches = [grids[start : start + BATCH_SIZE] for start in range(0, len(grids), BATCH_SIZE)]
    list(predict_grids(network, batches[:1]))
    for _ in range(rounds):
        timed("bare network", lambda: list(predict_grids(network, batches)))
        timed("whole case", score_case, network_and_threshold, folder, case, size=size, threshold=0.5)
        wall, busy = (whole / bare for whole, bare in zip(SECONDS["whole case"], SECONDS["bare network"], strict=True))
        print(f"  ratio {wall:.2f}, of CPU seconds {busy:.2f}", flush=True)


def main(rounds: int) -> None:
    """Time the bare network, the whole case, and each part."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case = write_case(folder)
        scan = LabeledScan.read(folder, case)
        for size in (SIZE, 2 * SIZE):
            compare(folder, case, scan, size, rounds)
        print(f"parts, on {SIZE}×{SIZE}:")
        timed("read scan and mask", LabeledScan.read, folder, case)
        timed("fit to the grid", fit_hu, scan.slices_hu, SIZE)
        parts = timed(
            "fit, answer without network, back",
            list,
            predict_slices(lambda hu: (hu > -600) & (hu < -150), scan.slices_hu, SIZE),
        )
        counts = LevelCounts()
        timed("levels", lambda: [counts.add(probability, scan.truth[part]) for part, probability in parts])
        prediction = np.concatenate([probability >= 0.5 for _, probability in parts])
        timed("surface", surface_agreement, scan.truth, prediction, scan.spacing_mm)
        timed("lesions", detect_lesions, scan.truth, prediction)
        timed("round trip", round_trip_dice, scan.truth, SIZE)
        index = largest_lesion_slice(scan.truth, prediction)
        timed("overlay", overlay_svg, "x", scan.slices_hu[index], scan.truth[index], prediction[index], (1.0, 1.0))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
