"""Extraction of zip archives, legitimate and malicious."""

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


def test_members_with_a_requested_suffix_are_extracted_in_their_folders(tmp_path):
    archive = zip_of(tmp_path / "a.zip", {"a.nii.gz": b"1", "deep/b.NII": b"2", "read.me": b"3", "empty/": b""})
    extract_zip(archive, tmp_path / "out", (".nii", ".nii.gz"))
    assert {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*")} == {"a.nii.gz", "deep/b.NII"}


def link():
    info = zipfile.ZipInfo("a.nii")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil.nii", "out of the folder"),
        ("a/../../evil.nii", "out of the folder"),
        ("..\\evil.nii", "out of the folder"),
        ("/etc/evil.nii", "absolute path"),
        ("C:\\evil.nii", "absolute path"),
        ("\\evil.nii", "absolute path"),
        (link(), "link"),
    ],
)
def test_an_archive_with_an_unsafe_member_is_refused_before_unpacking(tmp_path, name, reason):
    (tmp_path / "in").mkdir()
    archive = zip_of(tmp_path / "in" / "a.zip", {"good.nii": b"1", name: b"/etc/passwd"})
    with pytest.raises(InputError, match=rf"a\.zip: .*{reason}.*nothing was unpacked"):
        extract_zip(archive, tmp_path / "in" / "out", (".nii",))
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "a.zip"]


def test_duplicate_member_names_are_refused(tmp_path):
    archive = zip_of(tmp_path / "a.zip", {"a.nii": b"1", "A.nii": b"2"})
    with pytest.raises(InputError, match=r"a\.zip: .*'A\.nii'.*duplicate"):
        extract_zip(archive, tmp_path / "out", (".nii",))


def test_an_encrypted_member_is_refused(tmp_path):
    archive = zip_of(tmp_path / "a.zip", {"a.nii": b"1"})
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag bits of the central directory
    archive.write_bytes(data)
    with pytest.raises(InputError, match=rf"{archive.name}: .*encrypted"):
        extract_zip(archive, tmp_path / "out", (".nii",))


@pytest.mark.parametrize("limits", [{"max_bytes": 1 << 20}, {"max_ratio": 10}])
def test_bytes_and_ratio_are_limited(tmp_path, limits):
    archive = zip_of(tmp_path / "a.zip", {f"{n}.nii": bytes(6 << 20) for n in range(4)})
    with pytest.raises(InputError, match=r"a\.zip: .*\d MB.* [02]\.nii"):
        extract_zip(archive, tmp_path / "out", (".nii",), **limits)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def flip_a_bit(data: bytes) -> bytes:
    return data[:40] + bytes([data[40] ^ 0x10]) + data[41:]


@pytest.mark.parametrize(
    "damage", [lambda data: data[:100], lambda data: (b"<html>" * 99)[:100], lambda data: b"", flip_a_bit]
)
def test_a_damaged_archive_is_refused(tmp_path, damage):
    archive = zip_of(tmp_path / "a.zip", {"a.nii": b"0123456789" * 50})
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(InputError, match=r"a\.zip: .*zip archive"):
        extract_zip(archive, tmp_path / "out", (".nii",))
    assert not (tmp_path / "out").exists()
