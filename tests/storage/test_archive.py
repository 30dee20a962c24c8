"""Zip archives, honest and not."""

import stat
import zipfile

import pytest

from components.runtime.errors import InputError
from components.storage.archive import extract_zip


def zip_of(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_files_of_the_wanted_kind_are_unpacked_in_their_folders(tmp_path):
    archive = zip_of(tmp_path / "a.zip", {"a.nii.gz": b"1", "deep/b.NII": b"2", "read.me": b"3", "empty/": b""})
    extract_zip(archive, tmp_path / "out", (".nii", ".nii.gz"))
    assert {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*")} == {"a.nii.gz", "deep/b.NII"}


def link():
    info = zipfile.ZipInfo("a.nii")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("../evil.nii", "leads out of the folder"),
        ("a/../../evil.nii", "leads out of the folder"),
        ("..\\evil.nii", "leads out of the folder"),
        ("/etc/evil.nii", "absolute path"),
        ("C:\\evil.nii", "absolute path"),
        ("\\evil.nii", "absolute path"),
        (link(), "a link or a device"),
    ],
)
def test_an_archive_with_a_member_that_leads_elsewhere_is_refused_whole(tmp_path, name, says):
    (tmp_path / "in").mkdir()
    archive = zip_of(tmp_path / "in" / "a.zip", {"good.nii": b"1", name: b"/etc/passwd"})
    with pytest.raises(InputError, match=rf"a\.zip: member .*{says}; nothing was unpacked"):
        extract_zip(archive, tmp_path / "in" / "out", (".nii",))
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "a.zip"]


def test_two_members_of_one_name_are_refused(tmp_path):
    archive = zip_of(tmp_path / "a.zip", {"a.nii": b"1", "A.nii": b"2"})
    with pytest.raises(InputError, match=r"'A\.nii' stands in it twice"):
        extract_zip(archive, tmp_path / "out", (".nii",))


def test_an_encrypted_member_is_refused(tmp_path):
    archive = zip_of(tmp_path / "a.zip", {"a.nii": b"1"})
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag bits of the central directory
    archive.write_bytes(data)
    with pytest.raises(InputError, match="is encrypted"):
        extract_zip(archive, tmp_path / "out", (".nii",))


@pytest.mark.parametrize("limits", [{"max_bytes": 1 << 20}, {"max_ratio": 10}])
def test_bytes_and_ratio_are_capped_and_nothing_is_left(tmp_path, limits):
    archive = zip_of(tmp_path / "a.zip", {f"{n}.nii": bytes(6 << 20) for n in range(4)})
    with pytest.raises(InputError, match=r"a\.zip: unpacks to more than \d+ MB at [02]\.nii"):
        extract_zip(archive, tmp_path / "out", (".nii",), **limits)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("damage", [lambda data: data[:200], lambda data: b"<html>" * 99, lambda data: b""])
def test_what_is_no_zip_is_refused(tmp_path, damage):
    archive = zip_of(tmp_path / "a.zip", {"a.nii": b"content" * 99})
    archive.write_bytes(damage(archive.read_bytes())[:100])
    with pytest.raises(InputError, match=r"a\.zip: is no zip archive that can be read"):
        extract_zip(archive, tmp_path / "out", (".nii",))


def test_a_member_whose_bytes_were_changed_is_refused(tmp_path):
    archive = zip_of(tmp_path / "a.zip", {"a.nii": b"0123456789" * 50})
    data = bytearray(archive.read_bytes())
    data[40] ^= 0x10
    archive.write_bytes(data)
    with pytest.raises(InputError, match="is no zip archive that can be read"):
        extract_zip(archive, tmp_path / "out", (".nii",))
    assert not (tmp_path / "out").exists()
