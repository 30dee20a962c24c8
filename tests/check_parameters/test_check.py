"""Parameters are checked together before a run reads anything; what the check looks up, it leaves unchanged."""

import json
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from components.check_parameters.check import check_parameters
from components.check_parameters.component import check_parameters as step
from components.check_parameters.values import RULES, check_values
from components.evaluate.limits import GateLimits
from components.runtime.errors import InputError
from pipelines.parameters import PIPELINES, default_parameters
from tests.pipelines.driver import check_types
from tests.register_model.registry_server import run_registry
from tests.storage.gcs_server import BUCKET, Fault, gcs, gcs_server

__all__ = ["gcs", "gcs_server"]
CPU_ONLY = {"gpus": 0}
VALID = {pipeline: default_parameters(pipeline) for pipeline in PIPELINES}
VALID["training"] |= {"model_base": "gs://bucket/models"}
VALID["batch-prediction"] |= {"source": "scans", "model": "models"}


def findings(check, *arguments, **options):
    with pytest.raises(InputError) as error:
        check(*arguments, **options)
    return [str(line) for line in error.value.args]


def pem(key, encryption=None):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_parameter_has_a_rule_and_every_default_is_valid(pipeline):
    ruled = {*RULES, *GateLimits.__dataclass_fields__, "data_license"}
    assert set(PIPELINES[pipeline].component_spec.inputs) <= ruled
    check_values(VALID[pipeline])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("model_name", value) for value in ("", "../x", "a b", "a/b", ".", "..", "x" * 64, "-x", "x-", "ä", "a\n")),
        *(
            ("model_base", value)
            for value in ("", "~/x", "~other/x", "GS://b/x", "gs:/b", "gs://", "s3://b", "file:///x")
        ),
        *(("source", value) for value in ("", "~/x", "Gs://b", "https://example.org/x")),
        *(("push_to", value) for value in ("folder", "GS://b", "s3://b")),
        *((name, value) for name in ("cache", "checkpoint_dir", "folds_file") for value in ("gs://b/x", "~/x")),
        *((name, value) for name in ("signing_key_file", "pseudonym_key_file") for value in ("file:/x", "~", "a\0b")),
        *(("reference_profile", value) for value in ("S3://b", "~/x")),
        *(("seed", value) for value in (-1, 2**32, 0.5)),
        *(("label", value) for value in (-1, 256, 1.5, "one", True)),
        *(("image_size", value) for value in (0, -16, 100, 100.5, 128.5, 2**20, float("nan"), "big")),
        *(("min_lesion_pixels", value) for value in (-5, 0.5)),
        *((name, value) for name in ("epochs", "batch_size") for value in (-1, 1.5, float("inf"), "many")),
        *(("batch_size", value) for value in (65537, 2**31 - 1)),
        *(("changes", {"batch_size": value}) for value in (65537, 2**31 - 1)),
        ("changes", {"filters": [8, 2**31 - 1]}),
        *(("folds", value) for value in (0, 2, 5.5)),
        *(("parts", value) for value in (0, -1, 1.5)),
        *(("min_lesion_ml", value) for value in (-1, float("nan"), float("inf"), "much")),
        *((name, value) for name in ("min_dice", "max_regression") for value in (2, -1, float("nan"), "high")),
        *(("max_false_positive_ml", value) for value in (-1, float("inf"), float("nan"))),
        *(("preset", value) for value in ("", "foo", "Default")),
        *(("changes", value) for value in ({"epochs": 0}, {"rate": 1}, {"epochs": 1.5}, "[1", [1])),
        *(("on_invalid", value) for value in ("", "ignore")),
        *(("require_gpu", value) for value in ("perhaps", 1)),
        ("masks", " "),
        ("hard_cases", "a"),
        *(("model_registry", value) for value in ("registry:8080", "ftp://x", "http://", "http://x:y", "http://x y")),
        *(("server", value) for value in ("localhost", "http://x:8501", "x:0", "x:99999", "a b:8500")),
        *(("version_label", value) for value in ("a b", "../x")),
    ],
)
def test_an_invalid_value_is_a_finding_that_names_the_parameter(name, value):
    pipeline = next(pipeline for pipeline in PIPELINES if name in PIPELINES[pipeline].component_spec.inputs)
    served = {"server": "host:8500", "model": ""} if name in ("server", "version_label") else {}
    parameters = VALID[pipeline] | served | {name: value}
    (line,) = findings(check_values, parameters)
    assert name in line
    assert "expected" in line or "give" in line or "recipe setting" in line


@pytest.mark.parametrize(
    "valid",
    [
        {"model_name": "Lung.infection_2-b"},
        {"model_name": "x"},
        {"model_base": "models/x"},
        {"model_base": "/models/x"},
        {"source": "zenodo:https://mirror.example/x"},
        {"seed": 2**32 - 1},
        {"image_size": 128.0, "epochs": 3.0},  # as JSON has whole numbers
        {"changes": {"epochs": 3}, "preset": "baseline-focal"},
        {"min_dice": 1, "max_regression": 0.0},
    ],
)
def test_a_valid_value_is_no_finding(valid):
    check_values(VALID["training"] | valid)


def test_the_grid_must_suit_the_levels_of_the_network():
    (line,) = findings(check_values, VALID["training"] | {"changes": {"filters": [8] * 9}})
    assert "image_size is 128; expected a multiple of 256" in line


@pytest.mark.parametrize("server", ["host:8500", "[::1]:8500", "dns:///servers.ns:8500", "unix:/run/s", "10.0.0.1:1"])
def test_servers_have_the_addresses_that_grpc_takes(server):
    check_values(VALID["batch-prediction"] | {"model": "", "server": server, "version_label": "stable"})


@pytest.mark.parametrize(
    ("given", "fact"),
    [
        ({"server": "", "model": ""}, "neither is set"),
        ({"server": "host:1", "model": "m"}, "both are set"),
        ({"model": "m", "version_label": "stable"}, "labels belong to a server"),
    ],
)
def test_a_batch_needs_one_of_server_and_model(given, fact):
    (line,) = findings(check_values, VALID["batch-prediction"] | given)
    assert fact in line


def test_everything_wrong_is_found_at_once(tmp_path):
    (tmp_path / "file").touch()
    wrong = {
        "min_dice": 2.0,
        "min_case_dice": float("nan"),
        "epochs": -1,
        "preset": "foo",
        "changes": {"rate": 1, "epochs": 0},
        "require_gpu": True,
        "source": str(tmp_path / "missing"),
        "signing_key_file": str(tmp_path / "missing.pem"),
        "pseudonym_key_file": str(tmp_path / "missing.key"),
        "reference_profile": str(tmp_path),
        "model_base": str(tmp_path / "file" / "models"),
        "cache": str(tmp_path / "file"),
        "checkpoint_dir": str(tmp_path / "new" / ("x" * 256)),
    }
    before = sorted(tmp_path.rglob("*"))
    lines = findings(check_parameters, VALID["training"] | wrong, **CPU_ONLY)
    assert sorted(tmp_path.rglob("*")) == before
    assert len(lines) == len(wrong) + 1  # changes has two
    for name in wrong:
        assert any(line.startswith(name) for line in lines), name
    assert all("\n" not in line for line in lines)


def test_what_the_parameters_name_is_used_by_nothing_but_the_check(tmp_path, model_base):
    (tmp_path / "cohort" / "scans").mkdir(parents=True)
    (tmp_path / "cohort" / "infection_masks").mkdir()
    (tmp_path / "key.pem").write_bytes(pem(ec.generate_private_key(ec.SECP384R1())))
    (tmp_path / "key").write_text("0123456789abcdef")
    before = sorted(tmp_path.rglob("*"))
    given = {
        "source": str(tmp_path / "cohort"),
        "model_base": str(model_base),
        "signing_key_file": str(tmp_path / "key.pem"),
        "pseudonym_key_file": str(tmp_path / "key"),
        "cache": str(tmp_path / "new" / "cache"),
        "checkpoint_dir": str(tmp_path),
        "require_gpu": True,
    }
    check_parameters(VALID["training"] | given, gpus=1)
    check_parameters(VALID["batch-prediction"] | {"source": str(tmp_path), "model": str(model_base)})
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture
def model_base(tmp_path) -> Path:
    """A model base with one version, as far as folders tell."""
    version = tmp_path / "models" / "1"
    version.mkdir(parents=True)
    (version / "saved_model.pb").touch()
    return version.parent


@pytest.mark.parametrize(("model_base_", "fact"), [("models/1", "a version folder"), ("full", "the highest number")])
def test_a_base_that_takes_no_version_is_a_finding(model_base_, fact, model_base, tmp_path):
    shutil.copytree(model_base / "1", tmp_path / "full" / str(2**63 - 1))
    (line,) = findings(check_parameters, VALID["training"] | {"model_base": str(tmp_path / model_base_)})
    assert line.startswith("model_base: ")
    assert fact in line


@pytest.mark.parametrize("model", ["", "missing"])
def test_a_model_without_a_version_is_a_finding(model, tmp_path):
    (line,) = findings(
        check_parameters, VALID["batch-prediction"] | {"source": str(tmp_path), "model": str(tmp_path / model)}
    )
    assert "no version here" in line


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no key",
        pem(rsa.generate_private_key(65537, 2048)),
        pem(ec.generate_private_key(ec.SECP256K1())),
        pem(ec.generate_private_key(ec.SECP256R1()), BestAvailableEncryption(b"secret")),
    ],
    ids=["empty", "text", "RSA", "a curve that model-signing refuses", "with a passphrase"],
)
def test_a_key_that_cannot_sign_is_a_finding(content, tmp_path):
    (tmp_path / "key.pem").write_bytes(content)
    given = {"model_base": str(tmp_path), "signing_key_file": str(tmp_path / "key.pem")}
    (line,) = findings(check_parameters, VALID["training"] | given)
    assert "key.pem: " in line
    assert "expected an elliptic curve key" in line


FOLDS = ("{", "7", '{"a": 1}', "[[1], [2], [3]]", '[["a"], ["b"]]', '[["a"], ["b"], []]', '[["a"], ["b"], ["a"]]')


@pytest.mark.parametrize("content", [*FOLDS, "[" * 100_000])
def test_a_file_that_holds_no_folds_is_a_finding(content, tmp_path):
    (tmp_path / "folds.json").write_text(content)
    (line,) = findings(check_parameters, VALID["cross-validation"] | {"folds_file": str(tmp_path / "folds.json")})
    assert line.startswith("folds_file: ")
    (tmp_path / "folds.json").write_text(json.dumps([["a"], ["b"], ["c"]]))
    check_parameters(VALID["cross-validation"] | {"folds_file": str(tmp_path / "folds.json")})


@pytest.mark.parametrize(
    ("pipeline", "given", "fact"),
    [
        ("training", {"source": "phantom:1"}, "1 synthetic patient"),
        ("training", {"source": "phantom:2"}, "2 synthetic patients; expected at least 3"),
        ("training", {"source": "phantom:3"}, None),
        ("training", {"source": "phantom:100000000"}, "from 1 to 9999"),
        ("cross-validation", {"source": "phantom:4", "folds": 3}, None),  # two of the scans are of one patient
        ("cross-validation", {"source": "phantom:4", "folds": 5}, "3 synthetic patients; expected at least 5"),
        ("cross-validation", {"source": "phantom:5"}, "4 synthetic patients; expected at least 5"),
        ("cross-validation", {"source": "phantom:6"}, None),
    ],
)
def test_a_synthetic_cohort_has_a_patient_for_each_part(pipeline, given, fact, tmp_path):
    parameters = VALID[pipeline] | given | ({"model_base": str(tmp_path)} if pipeline == "training" else {})
    if fact is None:
        check_parameters(parameters)
    else:
        (line,) = findings(check_parameters, parameters)
        assert line.startswith("source")
        assert fact in line


@pytest.mark.parametrize("gpus", ["all", "-1", "1.5", "9" * 5000])
def test_a_number_of_gpus_that_is_none_ends_in_one_line(gpus, monkeypatch):
    monkeypatch.setenv("TRAIN_GPUS", gpus)
    with pytest.raises(SystemExit, match=r"error: TRAIN_GPUS: .*; expected .*; unset it"):
        step.python_func(**VALID["cross-validation"])


@pytest.mark.parametrize(("gpus", "fact"), [(0, "compiled without GPUs"), (None, "this machine has no GPU")])
def test_a_required_gpu_is_of_this_machine_or_of_the_compiled_train_step(gpus, fact, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (line,) = findings(
        check_parameters, VALID["training"] | {"model_base": str(tmp_path), "require_gpu": True}, gpus=gpus
    )
    assert line.startswith("require_gpu: ")
    assert fact in line


def test_a_bucket_is_tested_for_writing_without_an_object(gcs):
    parameters = VALID["training"] | {"model_base": f"gs://{BUCKET}/models", "push_to": f"gs://{BUCKET}/copy"}
    gcs.put("models/1/saved_model.pb", b"model")
    check_parameters(parameters)
    assert gcs.names() == ["models/1/saved_model.pb"]
    assert gcs.written == []
    gcs.faults.append(Fault("uploadType=resumable", method="POST", status=403, times=2))
    lines = findings(check_parameters, parameters)
    assert {line.partition(": ")[0] for line in lines} == {"model_base", "push_to"}
    assert all("not permitted (403)" in line for line in lines)
    (line,) = findings(check_parameters, VALID["training"] | {"model_base": "gs://no-such-bucket/models"})
    assert "not found (404)" in line


def test_a_registry_that_does_not_answer_is_a_finding(tmp_path):
    with run_registry() as registry:
        parameters = VALID["training"] | {"model_base": str(tmp_path), "model_registry": registry.url}
        check_parameters(parameters)
        assert registry.artifacts == []
    (line,) = findings(check_parameters, parameters)
    assert line.startswith("model_registry: ")
    assert "cannot be reached" in line


def test_the_step_refuses_the_fractions_that_kubeflow_passes_as_whole_numbers(monkeypatch):
    component = {"inputDefinitions": {"parameters": {"epochs": {"parameterType": "NUMBER_INTEGER"}}}}
    passed = check_types(component, {"epochs": 1.5})
    monkeypatch.setenv("TRAIN_GPUS", "0")
    with pytest.raises(SystemExit) as exit_:
        step.python_func(**VALID["cross-validation"] | passed | {"folds": 5.5, "require_gpu": True})
    lines = sorted(str(exit_.value.code).splitlines())
    assert [line.split(": ")[:2] for line in lines] == [["error", name] for name in ("epochs", "folds", "require_gpu")]
    assert "compiled without GPUs" in lines[2]
