"""The rooms that must stay free of what the others are built on."""

import subprocess
import sys

CT_MODULES = "cases, grid, intensity, labels, metrics, nifti, phantom, volume"


def test_the_ct_domain_imports_neither_kfp_nor_tensorflow():
    heavy = ["kfp", "tensorflow", "keras", "grpc", "google.cloud.storage", "great_expectations"]
    code = f"import sys; from components.ct import {CT_MODULES}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
