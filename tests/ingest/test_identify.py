"""The fingerprint of a source changes with its content, and only then."""

import os
import shutil

import numpy as np
import pytest

from components.identify.component import identify as step
from components.identify.fingerprint import fingerprint_source
from components.ingest.ingest import ingest
from components.runtime.errors import InputError
from components.storage.gcs import upload_folder
from tests.ingest.conftest import SHAPE
from tests.ingest.dicom_series import write_series
from tests.storage.gcs_server import BUCKET, Fault

URI = f"gs://{BUCKET}/covid"
KEY = "0123456789abcdef"


def test_an_unchanged_folder_keeps_its_digest_without_being_read(cohort):
    for path in cohort.rglob("*.nii.gz"):
        path.write_bytes(b"no volume")
    assert fingerprint_source(str(cohort)) == fingerprint_source(str(cohort))


def rewrite(path):
    path.write_bytes(path.read_bytes() + b"\0")


def replace_with_same_size_and_time(path):
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(bytes(before.st_size))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def remove(path):
    path.unlink()


def rename(path):
    path.rename(path.with_name("case_9.nii.gz"))


def add_case(path):
    shutil.copy2(path, path.with_name("case_9.nii.gz"))


@pytest.mark.parametrize("change", [rewrite, replace_with_same_size_and_time, remove, rename, add_case])
@pytest.mark.parametrize("folder", ["scans", "infection_masks"])
def test_any_change_to_a_file_changes_the_digest(change, folder, cohort):
    before = fingerprint_source(str(cohort))
    change(cohort / folder / "case_1.nii.gz")
    assert fingerprint_source(str(cohort)) != before


def test_patients_csv_and_each_slice_of_a_dicom_series_are_part_of_the_source(cohort):
    write_series(cohort / "scans" / "case_9", np.zeros(SHAPE, np.int16))
    digests = [fingerprint_source(str(cohort))]
    for patient in ("a", "b"):
        (cohort / "patients.csv").write_text(f"case_id,patient_id\ncase_0,{patient}\n")
        digests.append(fingerprint_source(str(cohort)))
    rewrite(next((cohort / "scans" / "case_9").iterdir()))
    digests.append(fingerprint_source(str(cohort)))
    assert len({*digests}) == 4


def test_files_that_ingest_does_not_read_are_ignored(cohort, save):
    before = fingerprint_source(str(cohort))
    save(cohort / "lung_masks" / "case_0.nii.gz")
    (cohort / "scans" / "notes.txt").write_text("reviewed")
    assert fingerprint_source(str(cohort)) == before
    assert fingerprint_source(str(cohort), masks="lung_masks") != before


def test_a_file_name_need_not_be_utf8(cohort):
    os.rename(os.fsencode(cohort / "scans" / "case_1.nii.gz"), os.fsencode(cohort / "scans") + b"/case_\xe4.nii.gz")
    assert fingerprint_source(str(cohort)) == fingerprint_source(str(cohort))


def test_any_change_to_an_object_changes_the_digest_without_downloads(gcs, cohort):
    (cohort / "lung_masks").mkdir()
    upload_folder(cohort, URI)
    gcs.requests.clear()
    digests = [fingerprint_source(URI)]
    content = gcs.get("covid/scans/case_1.nii.gz")
    gcs.put("covid/scans/case_1.nii.gz", content)  # the same bytes as a new generation
    digests.append(fingerprint_source(URI))
    gcs.put("covid/infection_masks/case_9.nii.gz", b"added")
    digests.append(fingerprint_source(URI))
    gcs.delete("covid/scans/case_2.nii.gz")
    digests.append(fingerprint_source(URI))
    gcs.put("covid/patients.csv", b"case_id,patient_id\n")
    digests.append(fingerprint_source(URI))
    assert len({*digests}) == 5
    gcs.put("covid/lung_masks/case_0.nii.gz", b"not needed")
    gcs.put("covid/readme.txt", b"not needed")
    assert fingerprint_source(URI) == digests[-1]
    assert gcs.downloads() == []


def test_zenodo_has_the_published_digests_without_a_request(file_server):
    infection = fingerprint_source("zenodo")
    assert infection == fingerprint_source("zenodo") == fingerprint_source(f"zenodo:{file_server.url}")
    assert infection != fingerprint_source("zenodo", masks="lung_masks")
    assert file_server.requests == []


def test_a_phantom_is_identified_by_its_name():
    assert fingerprint_source("phantom:3") == fingerprint_source("phantom:3") != fingerprint_source("phantom:4")


def test_the_pseudonym_key_changes_the_digest_but_white_space_around_it_does_not(cohort, tmp_path):
    key = tmp_path / "key"
    digests = [fingerprint_source(str(cohort))]
    for word in (KEY, KEY[::-1]):
        key.write_text(word)
        digests.append(fingerprint_source(str(cohort), pseudonym_key=key))
    key.write_text(KEY[::-1] + "\n")
    assert len({*digests}) == 3
    assert fingerprint_source(str(cohort), pseudonym_key=key) == digests[-1]


@pytest.mark.parametrize("source", ["", "phantom:x", "no/such/folder", "gs://B", f"gs://{BUCKET}/empty", "{cohort}"])
def test_an_invalid_source_gives_the_error_of_ingest(source, cohort, gcs, tmp_path):
    shutil.rmtree(cohort / "scans")
    source = source.format(cohort=cohort)
    with pytest.raises(InputError) as by_ingest:
        ingest(source, tmp_path / "out")
    with pytest.raises(InputError) as by_fingerprint:
        fingerprint_source(source)
    assert str(by_fingerprint.value) == str(by_ingest.value)


def test_with_pseudonyms_an_error_contains_no_object_name(gcs, tmp_path):
    (tmp_path / "key").write_text(KEY)
    gcs.put("covid/scans/bad", b"1")
    gcs.put("covid/infection_masks/a.nii", b"1")
    # Cloud Storage allows such names, the emulator does not.
    edit = Fault("prefix=covid", edit=lambda body: body.replace(b"scans/bad", b"scans/../meier.nii"))
    gcs.faults.append(edit)
    with pytest.raises(InputError, match="an object: ") as error:
        fingerprint_source(URI, pseudonym_key=tmp_path / "key")
    assert "meier" not in str(error.value)


def test_every_input_of_the_step_changes_the_digest(cohort, tmp_path):
    (tmp_path / "key").write_text(KEY)
    (cohort / "infection_masks").rename(cohort / "lung_masks")
    shutil.copytree(cohort / "lung_masks", cohort / "infection_masks")
    inputs = {"source": str(cohort), "masks": "lung_masks", "pseudonym_key_file": str(tmp_path / "key")}
    digests = [step.python_func(**inputs)]
    assert step.python_func(**inputs) == digests[0]
    for name, other in (("source", "phantom:3"), ("masks", "infection_masks"), ("pseudonym_key_file", None)):
        digests.append(step.python_func(**(inputs | {name: other})))
    assert len({*digests}) == 4


def test_the_step_exits_with_one_line_for_an_invalid_source(tmp_path):
    with pytest.raises(SystemExit) as exit_:
        step.python_func(source=str(tmp_path / "missing"))
    assert str(exit_.value).startswith(f"error: {tmp_path}/missing: no such folder")
