"""Which versions are served: by folder, by policy, by label; and what stays when one is bad."""

import shutil

import pytest
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from components.runtime.errors import InputError
from serving.server.errors import RequestError
from serving.server.model import ModelRequest
from serving.server.models import Models
from serving.server.server import Server, Settings
from serving.versions.layout import find_model_base, version_folders
from serving.versions.manifest import write_manifest
from serving.versions.model_config import ModelConfig


@pytest.fixture
def base(model_folder, tmp_path):
    """A model base of its own, with version 3."""
    shutil.copytree(model_folder / "3", tmp_path / "toy" / "3")
    return tmp_path / "toy"


def add_version(base, model_folder, number, source="12"):
    shutil.copytree(model_folder / source, base / f".{number}")
    (base / f".{number}").rename(base / str(number))


def add_damaged_version(base, number):
    (base / str(number)).mkdir()
    (base / str(number) / "saved_model.pb").write_bytes(b"not a model")


def serving(base, **config):
    models = Models()
    models.reload([ModelConfig("toy", str(base), **config)])
    return models


def test_only_complete_integer_folders_are_versions(tmp_path):
    for name in ("2", "10", "007", ".11.123.partial", "latest", "-3", "1.5", "٣"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").touch()
    (tmp_path / "99").mkdir()
    assert list(version_folders(tmp_path)) == [2, 7, 10]


def test_the_model_base_may_be_the_folder_above(model_folder, tmp_path):
    assert find_model_base(model_folder, "toy") == model_folder
    (tmp_path / "toy").symlink_to(model_folder)
    assert find_model_base(tmp_path, "toy") == tmp_path / "toy"


def test_a_folder_without_versions_is_told_with_what_was_expected(tmp_path):
    with pytest.raises(InputError, match=r"no model version here; expected .*saved_model\.pb"):
        find_model_base(tmp_path / "nothing", "toy")


def test_a_new_version_is_taken_over_and_the_old_one_freed(base, model_folder):
    models = serving(base)
    add_version(base, model_folder, 4)
    models.refresh()
    assert models.resolve(ModelRequest("toy"))[0] == 4
    assert {n: status.state for n, status in models.statuses(ModelRequest("toy")).items()} == {
        3: ModelVersionStatus.END,
        4: ModelVersionStatus.AVAILABLE,
    }
    with pytest.raises(RequestError, match=r"Specific\(toy, 3\)"):
        models.resolve(ModelRequest("toy", 3))


def test_a_damaged_newest_version_leaves_the_one_below_serving(base):
    add_damaged_version(base, 4)
    models = serving(base)
    assert models.resolve(ModelRequest("toy"))[0] == 3
    statuses = models.statuses(ModelRequest("toy"))
    assert statuses[3].state is ModelVersionStatus.AVAILABLE
    assert statuses[4].state is ModelVersionStatus.END
    assert "version 4 cannot be loaded" in statuses[4].error


def test_a_damaged_version_is_tried_again_when_its_files_change(base, model_folder):
    models = serving(base)
    add_damaged_version(base, 4)
    models.refresh()
    assert models.available_versions() == {"toy": [3]}
    shutil.copytree(model_folder / "12", base / "4", dirs_exist_ok=True)
    models.refresh()
    assert models.available_versions() == {"toy": [4]}
    assert models.statuses(ModelRequest("toy", 4))[4].error == ""


def test_a_version_that_was_tampered_with_is_not_served(base, model_folder):
    models = serving(base)
    shutil.copytree(base / "3", base / ".4")
    write_manifest(base / ".4")
    with (base / ".4" / "saved_model.pb").open("ab") as file:
        file.write(b"\x00")
    (base / ".4").rename(base / "4")
    models.refresh()
    assert models.available_versions() == {"toy": [3]}
    assert "saved_model.pb was changed" in models.statuses(ModelRequest("toy", 4))[4].error


def test_a_version_whose_warmup_fails_is_not_served(base, model_folder):
    from components.export.warmup import write_warmup_requests

    models = serving(base)
    shutil.copytree(base / "3", base / ".4")
    write_warmup_requests(base / ".4", "toy", size=99)
    (base / ".4").rename(base / "4")
    models.refresh()
    assert "to have shape [?,16,16] but [1,99,99]" in models.statuses(ModelRequest("toy", 4))[4].error


def test_the_last_version_stays_when_its_folder_vanishes(base):
    models = serving(base)
    shutil.rmtree(base)
    models.refresh()
    assert models.available_versions() == {"toy": [3]}


def test_a_model_whose_every_version_is_damaged_is_no_model(tmp_path):
    add_damaged_version(tmp_path, 4)
    with pytest.raises(InputError, match="no version of toy can be served: version 4 cannot be loaded"):
        Server(Settings(models=(ModelConfig("toy", str(tmp_path)),), port=0))


def test_a_labeled_version_stays_beside_newer_ones(base, model_folder):
    models = serving(base, labels={"stable": 3})
    add_version(base, model_folder, 4)
    models.refresh()
    assert models.available_versions() == {"toy": [3, 4]}
    assert models.resolve(ModelRequest("toy", label="stable"))[0] == 3
    assert models.resolve(ModelRequest("toy"))[0] == 4


def test_a_reload_that_cannot_be_met_changes_nothing(base):
    models = serving(base, labels={"stable": 3})
    for bad in (
        ModelConfig("toy", str(base), labels={"stable": 9}),
        ModelConfig("toy", str(base), specific=(9,)),
        ModelConfig("other", str(base / "nowhere")),
    ):
        with pytest.raises(RequestError) as caught:
            models.reload([bad])
        assert caught.value.code.name == "FAILED_PRECONDITION"
    assert models.available_versions() == {"toy": [3]}
    assert models.resolve(ModelRequest("toy", label="stable"))[0] == 3


@pytest.mark.parametrize(
    ("config", "candidates", "count"),
    [
        ({}, [9, 7, 4], 1),
        ({"newest": 2}, [9, 7, 4], 2),
        ({"newest": None}, [9, 7, 4], 3),
        ({"specific": (4, 7)}, [7, 4], 2),
        ({"labels": {"stable": 4}}, [4, 9, 7], 2),
        ({"labels": {"stable": 9}}, [9, 7, 4], 1),
        ({"specific": (7,), "labels": {"canary": 9}}, [9, 7], 2),
    ],
)
def test_the_policies_of_tf_serving(config, candidates, count):
    assert ModelConfig("toy", "/models", **config).candidates([4, 7, 9]) == (candidates, count)


def test_a_port_that_is_taken_is_told(model_folder, server):
    port = int(server.rpartition(":")[2])
    with pytest.raises(InputError, match=r"cannot listen on 127\.0\.0\.1.*taken"):
        Server(Settings(models=(ModelConfig("toy", str(model_folder)),), port=port))
