import shutil

import pytest

from components.ct.errors import InputError
from serving.models import Model, State
from serving.server import start
from serving.version_folders import model_base, version_folders


def test_only_complete_integer_folders_are_versions(tmp_path):
    for name in ("2", "10", "007", ".11.123.partial", "latest", "-3", "1.5"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").touch()
    (tmp_path / "99").mkdir()
    assert list(version_folders(tmp_path)) == [2, 7, 10]


def test_the_model_base_may_be_the_folder_above(model_folder, tmp_path):
    assert model_base(model_folder, "toy") == model_folder
    (tmp_path / "toy").symlink_to(model_folder)
    assert model_base(tmp_path, "toy") == tmp_path / "toy"


def test_a_folder_without_versions_is_told_with_what_was_expected(tmp_path):
    with pytest.raises(InputError, match=r"no model version here; expected .*saved_model\.pb"):
        model_base(tmp_path / "nothing", "toy")


def test_a_damaged_newest_version_leaves_the_one_below_serving(model_folder, tmp_path):
    shutil.copytree(model_folder / "3", tmp_path / "3")
    (tmp_path / "4").mkdir()
    (tmp_path / "4" / "saved_model.pb").write_bytes(b"not a model")
    model = Model("toy", tmp_path)
    assert model.load_newest() == 3
    assert model.statuses[3].state is State.AVAILABLE
    assert model.statuses[4].state is State.END
    assert "version 4 cannot be loaded" in model.statuses[4].error


def test_a_model_whose_every_version_is_damaged_is_no_model(tmp_path):
    (tmp_path / "4").mkdir()
    (tmp_path / "4" / "saved_model.pb").write_bytes(b"not a model")
    with pytest.raises(InputError, match="no version of toy can be served: version 4 cannot be loaded"):
        Model("toy", tmp_path).load_newest()


def test_a_port_that_is_taken_is_told(model_folder, server):
    with pytest.raises(InputError, match=r"cannot listen on 127\.0\.0\.1.*taken"):
        start(model_folder, "toy", port=int(server.rpartition(":")[2]))
