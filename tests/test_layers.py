"""Heavy libraries that packages must not import, so that light steps and commands start fast."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TENSORFLOW = ["tensorflow", "keras"]
HEAVY = [*TENSORFLOW, "kfp", "grpc", "google.cloud.storage", "great_expectations"]


@pytest.mark.parametrize(
    ("package", "forbidden", "exceptions"),
    [
        ("components/ct", HEAVY, []),
        ("components/runtime", HEAVY, []),
        ("components/report", HEAVY, []),
        ("components/check_parameters", HEAVY, ["component"]),
        ("serving/client", [*TENSORFLOW, "kfp", "great_expectations"], []),
        ("serving/commands", [*TENSORFLOW, "kfp", "great_expectations"], []),
        ("serving/versions", [*TENSORFLOW, "kfp", "great_expectations"], ["saved_model"]),
    ],
)
def test_a_package_imports_no_heavy_library(package, forbidden, exceptions):
    paths = [path for path in sorted((ROOT / package).rglob("*.py")) if path.stem not in exceptions]
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    code = f"import sys, {', '.join(modules)}; print([name for name in {forbidden} if name in sys.modules])"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"
