"""The champion: the served version that a new model is compared with on the same test cases."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.ct.inference import Network
from components.runtime.errors import InputError
from components.runtime.json_file import read_json
from serving.versions.layout import ASSETS_EXTRA, VERDICT_FILE

# A rollback only moves a version label: the newest version of the model base remains the champion.
REMEDY = "restore its files, or move its folder out of the model base to compare with the version before it"


@dataclass(frozen=True)
class Champion:
    """A served version, loaded."""

    name: str  # such as "version 3"
    network: Network  # predicts on its own grid
    image_size: int  # edge of that grid
    threshold: float  # probability from which it marks a voxel as lesion
    test_scan_digests: frozenset[str]  # digests of its test scans, on which it was not trained

    @classmethod
    def load(cls, version: Path, name: str) -> "Champion":
        """Load a version folder as the export step writes it, and run it once.

        Raises:
            InputError: it cannot be loaded, or its signature differs from an exported model's.
        """
        from serving.versions.saved_model import SavedModel

        try:
            model = SavedModel(version)
            size, threshold = model.image_size, model.threshold
        except Exception as error:  # TensorFlow's type depends on the damage: unknown ops, another Keras, broken files
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
            raise InputError(f"{name}: cannot be loaded for comparison ({reason}); {REMEDY}") from error
        return cls(name, model.lesion_probability, size, threshold, _read_tested_scans(version))


def _read_tested_scans(version: Path) -> frozenset[str]:
    def parse(content: Any) -> frozenset[str]:
        return frozenset(case["sha256_scan"] for case in content["cases"])

    try:
        return read_json(version / ASSETS_EXTRA / VERDICT_FILE, parse, "a verdict")
    except InputError:
        return frozenset()  # it may have been trained on any test case
