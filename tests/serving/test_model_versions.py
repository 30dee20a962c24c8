"""Which versions are served: by folder, policy and label, and after a failure."""

import shutil
import socket
import urllib.request

import numpy as np
import pytest
from tensorflow.core.protobuf import error_codes_pb2 as error_codes
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from components.runtime.errors import InputError
from pipelines.cli import main
from serving.client.segmentation import SegmentationClient
from serving.server.errors import RequestError
from serving.server.model import ModelRequest
from serving.server.models import ModelRegistry
from serving.server.process import server_process
from serving.server.server import Server, Settings
from serving.versions.layout import complete_local_versions, find_model_base
from serving.versions.manifest import write_manifest
from serving.versions.model_config import ModelConfig
from serving.versions.signing import sign
from tests.export.exportable import write_keys


@pytest.fixture
def base(model_folder, tmp_path):
    """A model base with version 3."""
    shutil.copytree(model_folder / "3", tmp_path / "toy" / "3")
    return tmp_path / "toy"


def add_version(source, base, number, change=lambda folder: None):
    """Copy a version folder, change it, and rename it to its number."""
    change(shutil.copytree(source, base / ".new"))
    (base / ".new").rename(base / str(number))


def add_damaged_version(base, number):
    (base / str(number)).mkdir()
    (base / str(number) / "saved_model.pb").write_bytes(b"not a model")


def load_models(base, **config):
    models = ModelRegistry()
    models.reload([ModelConfig("toy", str(base), **config)])
    return models


def statuses(models, version=None):
    return models.statuses(ModelRequest("toy", version))


def test_only_complete_folders_named_by_an_integer_are_versions(tmp_path):
    beyond_int64 = "20261124191012123456", "9223372036854775808", "-9223372036854775809", "9" * 250
    for name in ("2", "10", "007", ".11.123.partial", "latest", "1.5", "٣", "1e3", "0x5", "1_0", *beyond_int64):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").touch()
    (tmp_path / "99").mkdir()
    assert list(complete_local_versions(tmp_path)) == [2, 7, 10]


def test_the_model_base_can_be_its_parent_folder(model_folder, tmp_path):
    assert find_model_base(model_folder, "toy") == model_folder
    (tmp_path / "toy").symlink_to(model_folder)
    assert find_model_base(tmp_path, "toy") == tmp_path / "toy"


def test_a_folder_without_versions_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"nothing: .*expected .*saved_model\.pb"):
        find_model_base(tmp_path / "nothing", "toy")


def test_a_new_version_replaces_the_old_one(base, model_folder):
    models = load_models(base)
    add_version(model_folder / "12", base, 4)
    models.refresh()
    assert models.resolve(ModelRequest("toy"))[0] == 4
    states = {version: status.state for version, status in statuses(models).items()}
    assert states == {3: ModelVersionStatus.END, 4: ModelVersionStatus.AVAILABLE}
    with pytest.raises(RequestError, match=r"Specific\(toy, 3\)"):
        models.resolve(ModelRequest("toy", 3))


def test_a_damaged_newest_version_leaves_the_previous_one_serving(base):
    add_damaged_version(base, 4)
    models = load_models(base)
    assert models.resolve(ModelRequest("toy"))[0] == 3
    assert statuses(models)[3].state == ModelVersionStatus.AVAILABLE
    assert statuses(models)[4].state == ModelVersionStatus.END
    assert "version 4 cannot be loaded" in statuses(models)[4].error
    assert statuses(models)[4].error_code == error_codes.DATA_LOSS


def test_a_damaged_version_is_loaded_again_when_its_files_change(base, model_folder):
    models = load_models(base)
    add_damaged_version(base, 4)
    models.refresh()
    assert models.available_versions() == {"toy": [3]}
    shutil.copytree(model_folder / "12", base / "4", dirs_exist_ok=True)
    models.refresh()
    assert models.available_versions() == {"toy": [4]}
    assert statuses(models, 4)[4].error == ""


def test_a_version_that_differs_from_its_manifest_is_not_served(base):
    def tamper(folder):
        write_manifest(folder)
        with (folder / "saved_model.pb").open("ab") as file:
            file.write(b"\x00")

    models = load_models(base)
    add_version(base / "3", base, 4, tamper)
    models.refresh()
    assert models.available_versions() == {"toy": [3]}
    assert "saved_model.pb was changed" in statuses(models, 4)[4].error


def test_a_version_whose_warmup_fails_is_not_served(base):
    from components.export.signatures import write_warmup_requests

    models = load_models(base)
    add_version(base / "3", base, 4, lambda folder: write_warmup_requests(folder, "toy", size=99))
    models.refresh()
    assert "to have shape [?,16,16] but [1,99,99]" in statuses(models, 4)[4].error
    assert statuses(models, 4)[4].error_code == error_codes.INVALID_ARGUMENT


def test_the_last_version_is_still_served_after_its_folder_is_deleted(base):
    models = load_models(base)
    shutil.rmtree(base)
    models.refresh()
    assert models.available_versions() == {"toy": [3]}


def test_a_model_with_only_damaged_versions_is_an_error(tmp_path):
    add_damaged_version(tmp_path, 4)
    with pytest.raises(InputError, match=r"toy .*version 4 "):
        Server(Settings(models=(ModelConfig("toy", str(tmp_path)),), port=0))


def test_a_folder_that_cannot_be_read_does_not_stop_the_others(base, model_folder, tmp_path):
    (tmp_path / "linked").symlink_to(base)
    models = ModelRegistry()
    models.reload([ModelConfig("gone", str(tmp_path / "linked")), ModelConfig("toy", str(base))])
    (tmp_path / "linked").unlink()
    (tmp_path / "linked").symlink_to("x" * 300)  # a name that is too long
    add_version(model_folder / "12", base, 4)
    assert "gone: not refreshed: InputError: " in models.refresh()
    assert models.available_versions() == {"gone": [3], "toy": [4]}


def test_a_damaged_version_with_a_broken_link_does_not_stop_later_versions(base, model_folder):
    models = load_models(base)
    add_damaged_version(base, 4)
    (base / "4" / "variables").symlink_to("nowhere")
    models.refresh()
    add_version(model_folder / "12", base, 5)
    models.refresh()
    assert models.available_versions() == {"toy": [5]}


@pytest.mark.parametrize("removed", ["MANIFEST.sha256", "verdict.json"])
def test_a_version_of_the_export_step_is_not_served_without_its_manifest(base, removed):
    def remove(folder):
        for name in ("verdict.json", "preprocessing.json"):
            (folder / "assets.extra").mkdir(exist_ok=True)
            (folder / "assets.extra" / name).write_text("{}")
        write_manifest(folder)
        (folder / "assets.extra" / removed).unlink()

    models = load_models(base)
    add_version(base / "3", base, 4, remove)
    models.refresh()
    assert models.available_versions() == {"toy": [3]}
    assert removed in statuses(models, 4)[4].error
    assert statuses(models, 4)[4].error_code == error_codes.DATA_LOSS


def test_a_version_of_another_exporter_has_no_manifest_and_a_warning(base, caplog):
    load_models(base)
    assert f"{base / '3'}: has no manifest" in caplog.text


def test_only_versions_with_the_required_signature_are_served(base, tmp_path):
    def sign_with(name):
        def change(folder):
            (folder / "assets.extra").mkdir()
            write_manifest(folder)
            sign(folder, tmp_path / f"{name}.pem")

        return change

    for name in ("ours", "theirs"):
        write_keys(tmp_path, name)
    add_version(base / "3", base, 4, sign_with("ours"))
    models = ModelRegistry(tmp_path / "ours.pub")
    models.reload([ModelConfig("toy", str(base), newest=None)])
    assert models.available_versions() == {"toy": [4]}
    add_version(base / "3", base, 5, sign_with("theirs"))
    models.refresh()
    assert models.available_versions() == {"toy": [4]}
    assert "not signed" in statuses(models, 3)[3].error
    assert "ours.pub" in statuses(models, 5)[5].error


def test_a_label_does_not_keep_its_version_from_being_unloaded(base, model_folder):
    """tensorflow/serving, file_system_storage_path_source.cc: AspireLatestVersions does not know labels."""
    models = load_models(base, labels={"stable": 3})
    add_version(model_folder / "12", base, 4)
    models.refresh()
    assert models.available_versions() == {"toy": [4]}
    with pytest.raises(RequestError, match=r"Specific\(toy, 3\)"):
        models.resolve(ModelRequest("toy", label="stable"))


def test_a_label_in_use_moves_only_to_a_loaded_version_and_a_new_label_anywhere(base, model_folder):
    """tensorflow/serving, model_servers/server_core.cc: UpdateModelVersionLabelMap runs before versions are loaded.

    As with --allow_version_labels_for_unavailable_models.
    """
    add_version(model_folder / "12", base, 4)
    models = load_models(base, specific=(3,), labels={"stable": 3})
    with pytest.raises(RequestError) as caught:
        models.reload([ModelConfig("toy", str(base), specific=(3, 4), labels={"stable": 4, "canary": 4})])
    assert caught.value.code.name == "FAILED_PRECONDITION"
    assert str(caught.value) == (
        "Request to assign label to version 4 of model toy, which is not currently available for inference"
    )
    # The refused configuration has no effect: version 4 is not loaded, and `canary` does not exist.
    models.refresh()
    assert models.available_versions() == {"toy": [3]}
    with pytest.raises(RequestError, match="Unrecognized servable version label: canary"):
        models.resolve(ModelRequest("toy", label="canary"))
    models.reload([ModelConfig("toy", str(base), specific=(3, 4), labels={"stable": 3, "canary": 4, "next": 9})])
    assert models.resolve(ModelRequest("toy", label="canary"))[0] == 4
    with pytest.raises(RequestError, match=r"Specific\(toy, 9\)"):
        models.resolve(ModelRequest("toy", label="next"))
    models.reload([ModelConfig("toy", str(base), specific=(4,), labels={"stable": 4})])
    assert models.resolve(ModelRequest("toy", label="stable"))[0] == 4
    assert models.available_versions() == {"toy": [4]}


def test_a_new_model_without_a_loadable_version_is_refused_and_changes_nothing(base):
    models = load_models(base, labels={"stable": 3})
    with pytest.raises(RequestError) as caught:
        models.reload([ModelConfig("other", str(base / "missing"))])
    assert caught.value.code.name == "FAILED_PRECONDITION"
    assert models.resolve(ModelRequest("toy", label="stable"))[0] == 3


def test_the_last_version_is_kept_when_no_specific_version_exists(base):
    models = load_models(base, labels={"stable": 3})
    models.reload([ModelConfig("toy", str(base), specific=(9,), labels={"stable": 3})])
    assert models.resolve(ModelRequest("toy", label="stable"))[0] == 3
    with pytest.raises(RequestError, match="Could not find version 9 of model toy"):
        statuses(models, 9)


@pytest.mark.parametrize(
    ("config", "candidates", "count"),
    [
        ({}, [9, 7, 4], 1),
        ({"newest": 2}, [9, 7, 4], 2),
        ({"newest": None}, [9, 7, 4], 3),
        ({"specific": (4, 7, 11)}, [7, 4], 2),
        ({"labels": {"stable": 4}}, [9, 7, 4], 1),
        ({"specific": (7,), "labels": {"canary": 9}}, [7], 1),
    ],
)
def test_version_policies_match_tf_serving(config, candidates, count):
    assert ModelConfig("toy", "/models", **config).candidates([4, 7, 9]) == (candidates, count)


@pytest.mark.parametrize("option", ["port", "rest_port", "both"])
def test_a_port_in_use_is_an_error_before_the_model_is_read(server, tmp_path, option):
    port = int(server.rpartition(":")[2])
    if option == "both":
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
    ports = {"port": port, "rest_port": port} if option == "both" else {"port": 0, option: port}
    with pytest.raises(InputError, match=rf"127\.0\.0\.1:{port}: .*--{'port' if option == 'port' else 'rest-port'} "):
        Server(Settings(models=(ModelConfig("toy", str(tmp_path / "missing")),), **ports))


@pytest.mark.parametrize(
    ("host", "ipv4"),
    [("::1", False), ("[::1]", False), ("localhost", False), ("::", True), ("[::]", True), ("0::0", True)],
)
def test_both_ports_listen_on_a_host_and_on_every_address_of_all_hosts(model_folder, host, ipv4):
    server = Server(Settings(models=(ModelConfig("toy", str(model_folder)),), host=host, port=0, rest_port=0))
    try:
        with SegmentationClient(server.address, "toy") as client:
            assert client.predict_slices(np.zeros((1, 4, 4), np.int16))[2] == 12
        port = server.rest_address.rpartition(":")[2]
        for address in (server.rest_address, *([f"127.0.0.1:{port}"] * ipv4)):
            with urllib.request.urlopen(f"http://{address}/v1/models/toy", timeout=30) as reply:
                assert reply.status == 200
    finally:
        server.stop()


def test_a_server_process_that_does_not_start_in_time_is_an_error(model_folder):
    with (
        pytest.raises(InputError, match=r"toy: the server did not start within 0\.2 s"),
        server_process(model_folder, "toy", start_timeout_s=0.2),
    ):
        pass


@pytest.mark.parametrize("version", ["20261124191012123456", "9" * 5000, "-1"])
def test_a_version_that_no_server_reads_is_an_error_of_the_command(base, version, capsys):
    for name in ("20261124191012123456", "20261124191012123457"):
        (base / name).mkdir()
        (base / name / "saved_model.pb").touch()
    command = ["versions", "promote", "--model-base", str(base), "--model", "toy", "--why", "newest"]
    with pytest.raises(SystemExit):
        main([*command, "--version", version])
    assert "--version" in capsys.readouterr().err
    main(["versions", "list", "--model-base", str(base), "--model", "toy"])
    assert "20261124" not in capsys.readouterr().out
