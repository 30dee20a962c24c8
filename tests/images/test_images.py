"""The images contain what the code imports, by the Dockerfile, the lock file and the imports."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "images" / "Dockerfile").read_text()
PRODUCT = ("components", "pipelines", "serving")
LOCK = {entry["name"]: entry for entry in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}


def locked_closure(name: str, extras: tuple[str, ...] = ()) -> set[str]:
    """A package and its transitive dependencies, from the lock file."""
    closure: set[str] = set()
    pending = [(name, extras)]
    while pending:
        name, extras = pending.pop()
        if name in closure and not extras:
            continue
        closure.add(name)
        needs = [*LOCK[name].get("dependencies", [])]
        for extra in extras:
            needs += LOCK[name].get("optional-dependencies", {}).get(extra, [])
        pending += [(need["name"], tuple(need.get("extra", ()))) for need in needs]
    return closure


def imported_modules() -> dict[str, set[str]]:
    """Top-level modules that the product imports, and the files that import them."""
    places: dict[str, set[str]] = {}
    for package in PRODUCT:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
                for name in names:
                    places.setdefault(name.split(".")[0], set()).add(str(path.relative_to(ROOT)))
    return places


def test_the_product_imports_no_development_dependencies():
    project = LOCK["lung-ct-pipelines"]
    installed = locked_closure("lung-ct-pipelines", tuple(project.get("optional-dependencies", {})))
    distributions = importlib.metadata.packages_distributions()
    missing = {
        module: sorted(places)
        for module, places in imported_modules().items()
        if module not in sys.stdlib_module_names
        and module not in PRODUCT
        and not {name.lower().replace("_", "-") for name in distributions.get(module, [])} & installed
        and module not in OPTIONAL
    }
    assert missing == {}


# Imported on request only.
OPTIONAL = {"docker"}


def test_the_steps_of_the_data_image_import_without_tensorflow():
    left_out = re.findall(r"--no-install-package (\S+)", DOCKERFILE)
    assert "tensorflow" in left_out
    modules = {"tensorflow", "keras", "tensorboard", "tensorflow_serving", "clang", "h5py"}
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({modules}, None));"
        "import components.check_parameters.check, components.identify.fingerprint;"
        "import components.ingest.ingest, components.validate.validate"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_each_step_has_its_image(tmp_path):
    environment = os.environ | {"CPU_IMAGE": "r.example/c", "DATA_IMAGE": "r.example/d", "TRAIN_IMAGE": "r.example/t"}
    compile_all = [sys.executable, "-m", "pipelines.cli", "compile", "-o", tmp_path]
    subprocess.run(compile_all, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    package, *_ = yaml.safe_load_all((tmp_path / "training.yaml").read_text())
    steps: dict[str, set[str]] = {}
    for name, executor in package["deploymentSpec"]["executors"].items():
        steps.setdefault(executor["container"]["image"], set()).add(name.removeprefix("exec-"))
    assert steps["r.example/d"] == {"check-parameters", "identify", "ingest", "validate", "require-valid"}
    assert steps["r.example/t"] == {"train"}
    assert steps["r.example/c"] == {"slice", "evaluate", "view-3d", "export", "register-model", "report-refusal"}


@pytest.mark.parametrize("target", ["data", "cpu", "gpu"])
def test_every_image_is_labeled_and_has_a_numeric_user(target):
    stage = re.search(rf"^FROM runtime AS {target}\n(.*?)(?=^FROM|\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert stage is not None
    for label in ("source", "revision", "version"):
        assert f"org.opencontainers.image.{label}=" in stage[1]
    runtime = re.search(r"^FROM \S+ AS runtime\n(.*?)(?=^FROM)", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert runtime is not None
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", runtime[1], re.MULTILINE)
    assert "USER" not in stage[1]


def test_copied_files_exist_and_are_not_ignored():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copies = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    sources = {source for copy in copies for source in copy.split()[:-1]}
    assert sources <= allowed
    assert all((ROOT / source).exists() for source in sources)


def test_the_code_layer_follows_the_locked_packages():
    locked = DOCKERFILE[: DOCKERFILE.index("AS code")]
    assert not re.search(r"^COPY (components|pipelines|serving)", locked, re.MULTILINE)


def test_hadolint_has_no_findings():
    done = subprocess.run(["hadolint", ROOT / "images" / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert done.returncode == 0
