"""Version labels in the `models.config`, and their ledger."""

import json

import pytest
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from components.runtime.errors import InputError
from pipelines.cli import main
from serving.client.promotion import promote, rollback
from serving.versions.labels import VersionLabels
from serving.versions.manifest import write_manifest
from serving.versions.model_config import ModelConfig, read_model_config, write_model_config
from tests.storage.gcs_server import BUCKET


@pytest.fixture
def base(tmp_path):
    """A model base with versions 1, 2 and 3, with test Dice 0.71, 0.72 and 0.73."""
    for number in (1, 2, 3):
        extra = tmp_path / "lung" / str(number) / "assets.extra"
        extra.mkdir(parents=True)
        (extra.parent / "saved_model.pb").write_text(str(number))
        verdict = {"verdict": "pass", "test_dice": 0.7 + number / 100, "model_sha256": "ab" * 32}
        (extra / "verdict.json").write_text(json.dumps(verdict))
        write_manifest(extra.parent)
    return tmp_path / "lung"


@pytest.fixture
def labels(base):
    return VersionLabels(base / "models.config", "lung", str(base))


def test_a_promotion_writes_what_tf_serving_reads(labels, base):
    labels.move(1, "stable", why="first")
    labels.move(3, "canary", why="try it")
    expected = f"""model_config_list {{ config {{
        name: "lung" base_path: "{base}" model_platform: "tensorflow"
        model_version_policy {{ specific {{ versions: [1, 3] }} }}
        version_labels {{ key: "canary" value: 3 }} version_labels {{ key: "stable" value: 1 }}
    }} }}"""
    written = text_format.Parse((base / "models.config").read_text(), ModelServerConfig())
    assert written == text_format.Parse(expected, ModelServerConfig())


def test_the_ledger_records_who_when_why_and_the_verdict(labels):
    labels.move(2, "stable", why="better on site B", who="Dr. Who")
    (change,) = labels.changes()
    assert (change.who, change.why, change.action) == ("Dr. Who", "better on site B", "promote")
    assert (change.from_version, change.to_version) == (None, 2)
    assert (change.verdict, change.test_dice, change.model_sha256) == ("pass", 0.72, "ab" * 32)
    assert change.when.endswith("+00:00")


def test_rollbacks_go_back_one_promotion_at_a_time(labels):
    for number in (1, 2, 3):
        promote(labels, number, "stable", why="newer")
    rollback(labels, "stable", why="noise")
    assert labels.current() == {"stable": 2}
    rollback(labels, "stable", why="noise")
    assert labels.current() == {"stable": 1}
    with pytest.raises(InputError, match=r"lung .*stable .*\b1\b"):
        rollback(labels, "stable", why="noise")
    assert [change.to_version for change in labels.changes()] == [1, 2, 3, 2, 1]


def test_a_version_promoted_twice_is_recorded_once_and_rolls_back_to_the_one_before(labels, capsys):
    for number in (1, 2, 2):
        promote(labels, number, "stable", why="newer")
    assert capsys.readouterr().out.splitlines()[-1].endswith("stable of lung is version 2 already")
    assert len(labels.changes()) == 2
    rollback(labels, "stable", why="noise")
    assert labels.current() == {"stable": 1}


def test_a_version_promoted_again_without_servers_is_one_line(base, labels, capsys):
    promote(labels, 1, "stable", why="first")
    capsys.readouterr()
    before = labels.config_file.read_bytes()
    main(["versions", "promote", "--model-base", str(base), "--model", "lung", "--version", "1", "--why", "again"])
    assert capsys.readouterr().out == f"{labels.config_file}: stable of lung is version 1 already\n"
    assert labels.config_file.read_bytes() == before


def test_servers_keep_the_version_of_each_label_and_the_one_before_until_the_next_promotion(labels):
    def served():
        (config,) = read_model_config(labels.config_file)
        return config.specific

    promote(labels, 1, "stable", why="first")
    promote(labels, 2, "canary", why="try it")
    assert served() == (1, 2)
    labels.add(3)
    assert served() == (1, 2, 3)
    assert labels.current() == {"stable": 1, "canary": 2}
    labels.move(3, "canary", why="newer")
    assert (served(), labels.prune()) == ((1, 2, 3), False)
    promote(labels, 1, "canary", why="back to stable")
    assert served() == (1, 3)  # 3 is the version that `canary` had before


def test_a_version_with_changed_files_is_not_promoted(labels, base):
    labels.move(1, "stable", why="first")
    (base / "2" / "saved_model.pb").write_text("other")
    with pytest.raises(InputError, match=r"saved_model\.pb was changed"):
        labels.move(2, "stable", why="second")
    assert labels.current() == {"stable": 1}
    assert len(labels.changes()) == 1


@pytest.mark.parametrize(("version", "label", "facts"), [(9, "stable", "9.*1, 2, 3"), (1, "a b", "a b.*letters")])
def test_an_invalid_promotion_writes_nothing(labels, version, label, facts):
    with pytest.raises(InputError, match=facts):
        labels.move(version, label, why="a test")
    assert not labels.config_file.exists()


def test_other_models_in_the_file_are_unchanged(labels, base):
    other = ModelConfig("other", "/models/other", newest=2, labels={"stable": 4})
    write_model_config(base / "models.config", [other])
    labels.move(1, "stable", why="first")
    assert read_model_config(base / "models.config")[0] == other


def test_the_command_line_promotes_lists_and_rolls_back(base, capsys):
    options = ["--model-base", str(base), "--model", "lung"]
    main(["versions", "promote", *options, "--version", "1", "--why", "first", "--who", "me"])
    main(["versions", "promote", *options, "--version", "2", "--why", "second", "--who", "me", "--no-server"])
    main(["versions", "rollback", *options, "--why", "noise on site B", "--who", "me", "--no-server"])
    capsys.readouterr()
    main(["versions", "list", *options])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["version 1  stable", "version 2  -", "version 3  -"]
    assert lines[-1].endswith("rollback stable: 2 -> 1 by me: noise on site B, test Dice 0.710")


def test_listing_a_base_without_versions_says_so(tmp_path, gcs, capsys):
    command = ["versions", "list", "--model", "lung", "--config", str(tmp_path / "models.config"), "--model-base"]
    with pytest.raises(SystemExit, match=r"^error: /nope: no such folder"):
        main([*command, "/nope"])
    for base in (str(tmp_path), f"gs://{BUCKET}/nope"):
        main([*command, base])
        assert capsys.readouterr().out == f"{base}: no versions\n"


def test_a_version_in_cloud_storage_is_verified_and_promoted(base, gcs, tmp_path):
    for path in (file for file in base.rglob("*") if file.is_file()):
        gcs.put(f"models/lung/{path.relative_to(base)}", path.read_bytes())
    gcs.put("models/lung/4/variables/half", b"an unfinished upload")
    address, config = f"gs://{BUCKET}/models/lung", tmp_path / "models.config"
    command = ["versions", "promote", "--model-base", address, "--model", "lung", "--why", "first"]
    main([*command, "--version", "2", "--config", str(config)])
    (written,) = read_model_config(config)
    assert (written.base, written.labels) == (address, {"stable": 2})
    assert VersionLabels(config, "lung", address).changes()[0].test_dice == 0.72
    with pytest.raises(SystemExit, match=r"version 4\b.*1, 2, 3"):
        main([*command, "--no-server", "--version", "4", "--config", str(config)])
    gcs.put("models/lung/3/saved_model.pb", b"changed")
    with pytest.raises(SystemExit, match=r"saved_model\.pb was changed"):
        main([*command, "--no-server", "--version", "3", "--config", str(config)])
    with pytest.raises(SystemExit, match=r"gs://.*--config"):
        main([*command, "--version", "2"])
