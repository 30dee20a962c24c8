"""The manifest of a version."""

import subprocess

import pytest

from components.runtime.errors import InputError
from pipelines.cli import main
from serving.versions.layout import MANIFEST_FILE
from serving.versions.manifest import verify, write_manifest


@pytest.fixture
def version(tmp_path):
    for name in ("saved_model.pb", "variables/variables.index", "assets.extra/verdict.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    write_manifest(tmp_path)
    return tmp_path


def test_an_unchanged_version_matches(version, capsys):
    assert verify(version) == 3
    main(["versions", "verify", str(version)])
    assert capsys.readouterr().out == f"{version}: all 3 files match the manifest\n"


def test_sha256sum_verifies_the_manifest(version):
    subprocess.run(["sha256sum", "--strict", "-c", str(MANIFEST_FILE)], cwd=version, check=True, capture_output=True)


def test_every_changed_missing_and_added_file_is_named(version):
    (version / "saved_model.pb").write_text("Saved_model.pb")
    (version / "variables" / "variables.index").unlink()
    (version / "assets.extra" / "more.txt").touch()
    with pytest.raises(InputError) as caught:
        verify(version)
    for fact in ("saved_model.pb was changed", "variables.index is missing", "more.txt was added", "do not serve"):
        assert fact in str(caught.value)


def test_the_command_line_fails_with_one_line(version, tmp_path):
    (version / "saved_model.pb").write_text("")
    with pytest.raises(SystemExit, match=r"saved_model\.pb was changed"):
        main(["versions", "verify", str(version)])
    with pytest.raises(SystemExit, match=r"has no assets\.extra/MANIFEST\.sha256"):
        main(["versions", "verify", str(tmp_path / "missing")])


@pytest.mark.parametrize("line", [b"", b"abc  saved_model.pb", b"\xff\xfe\x00"])
def test_a_malformed_manifest_is_an_error(version, line):
    (version / MANIFEST_FILE).write_bytes(line + b"\n")
    with pytest.raises(InputError, match="line 1"):
        verify(version)
