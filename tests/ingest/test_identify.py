"""The digest of a source: another one whenever its content may be another, and the same otherwise."""

import os
import shutil

import numpy as np
import pytest

from components.identify.component import identify as step
from components.identify.fingerprint import identify
from components.ingest.ingest import ingest
from components.runtime.errors import InputError
from components.storage.gcs import upload_folder
from tests.ingest.conftest import SHAPE
from tests.ingest.dicom_series import write_series
from tests.storage.gcs_server import BUCKET, Fault

URI = f"gs://{BUCKET}/covid"
KEY = "0123456789abcdef"


def test_a_folder_that_nobody_touches_keeps_its_digest_and_is_not_read(cohort):
    for path in cohort.rglob("*.nii.gz"):
        path.write_bytes(b"no volume")
    assert identify(str(cohort)) == identify(str(cohort))


def changed(path):
    path.write_bytes(path.read_bytes() + b"\0")


def replaced_by_one_of_the_same_size_and_time(path):
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(bytes(before.st_size))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def removed(path):
    path.unlink()


def renamed(path):
    path.rename(path.with_name("case_9.nii.gz"))


def joined_by_another(path):
    shutil.copy2(path, path.with_name("case_9.nii.gz"))


@pytest.mark.parametrize(
    "happens", [changed, replaced_by_one_of_the_same_size_and_time, removed, renamed, joined_by_another]
)
@pytest.mark.parametrize("folder", ["scans", "infection_masks"])
def test_whatever_happens_to_a_file_in_a_folder_changes_the_digest(happens, folder, cohort):
    before = identify(str(cohort))
    happens(cohort / folder / "case_1.nii.gz")
    assert identify(str(cohort)) != before


def test_the_table_of_patients_belongs_to_the_source(cohort):
    digests = [identify(str(cohort))]
    for patient in ("a", "b"):
        (cohort / "patients.csv").write_text(f"case_id,patient_id\ncase_0,{patient}\n")
        digests.append(identify(str(cohort)))
    assert len({*digests}) == 3


def test_a_slice_of_a_dicom_series_belongs_to_the_source(cohort):
    write_series(cohort / "scans" / "case_9", np.zeros(SHAPE, np.int16))
    before = identify(str(cohort))
    changed(next((cohort / "scans" / "case_9").iterdir()))
    assert identify(str(cohort)) != before


def test_what_ingest_does_not_read_does_not_change_the_digest(cohort, save):
    before = identify(str(cohort))
    save(cohort / "lung_masks" / "case_0.nii.gz")
    (cohort / "scans" / "notes.txt").write_text("reviewed")
    assert identify(str(cohort)) == before
    assert identify(str(cohort), masks="lung_masks") != before


def test_a_name_that_is_no_utf8_can_be_digested(cohort):
    os.rename(os.fsencode(cohort / "scans" / "case_1.nii.gz"), os.fsencode(cohort / "scans") + b"/case_\xe4.nii.gz")
    assert identify(str(cohort)) == identify(str(cohort))


def test_a_bucket_is_listed_and_nothing_is_fetched(gcs, cohort):
    upload_folder(cohort, URI)
    gcs.requests.clear()
    assert identify(URI) == identify(URI)
    assert gcs.downloads() == []


def test_whatever_happens_to_an_object_changes_the_digest(gcs, cohort):
    (cohort / "lung_masks").mkdir()
    upload_folder(cohort, URI)
    digests = [identify(URI)]
    content = gcs.get("covid/scans/case_1.nii.gz")
    gcs.put("covid/scans/case_1.nii.gz", content)  # the same bytes, in another generation
    digests.append(identify(URI))
    gcs.put("covid/infection_masks/case_9.nii.gz", b"added")
    digests.append(identify(URI))
    gcs.delete("covid/scans/case_2.nii.gz")
    digests.append(identify(URI))
    gcs.put("covid/patients.csv", b"case_id,patient_id\n")
    digests.append(identify(URI))
    assert len({*digests}) == 5
    gcs.put("covid/lung_masks/case_0.nii.gz", b"not asked for")
    gcs.put("covid/readme.txt", b"nor this")
    assert identify(URI) == digests[-1]


def test_zenodo_is_digested_by_what_was_published_without_asking_the_server(file_server):
    infection = identify("zenodo")
    assert infection == identify("zenodo") == identify(f"zenodo:{file_server.url}")
    assert infection != identify("zenodo", masks="lung_masks")
    assert file_server.requests == []


def test_a_phantom_is_its_own_name():
    assert identify("phantom:3") == identify("phantom:3") != identify("phantom:4")


def test_another_key_for_pseudonyms_is_another_digest_and_white_space_around_it_is_not(cohort, tmp_path):
    key = tmp_path / "key"
    digests = [identify(str(cohort))]
    for word in (KEY, KEY[::-1]):
        key.write_text(word)
        digests.append(identify(str(cohort), pseudonym_key=key))
    key.write_text(KEY[::-1] + "\n")
    assert len({*digests}) == 3
    assert identify(str(cohort), pseudonym_key=key) == digests[-1]


@pytest.mark.parametrize("source", ["", "phantom:x", "no/such/folder", "gs://B", f"gs://{BUCKET}/empty", "{cohort}"])
def test_a_source_that_is_none_is_told_in_the_words_of_ingest(source, cohort, gcs, tmp_path):
    shutil.rmtree(cohort / "scans")
    source = source.format(cohort=cohort)
    with pytest.raises(InputError) as by_ingest:
        ingest(source, tmp_path / "out")
    with pytest.raises(InputError) as by_identify:
        identify(source)
    assert str(by_identify.value) == str(by_ingest.value)


def test_with_pseudonyms_no_message_names_an_object(gcs, tmp_path):
    (tmp_path / "key").write_text(KEY)
    gcs.put("covid/scans/bad", b"1")
    # The emulator takes no such names; Cloud Storage does.
    edit = Fault("prefix=covid", edit=lambda body: body.replace(b"scans/bad", b"scans/../meier.nii"))
    gcs.faults.append(edit)
    with pytest.raises(InputError, match="an object: a name that leads out of the folder") as told:
        identify(URI, pseudonym_key=tmp_path / "key")
    assert "meier" not in str(told.value)


def test_the_step_digests_each_of_its_inputs(cohort, tmp_path):
    (tmp_path / "key").write_text(KEY)
    (cohort / "infection_masks").rename(cohort / "lung_masks")
    shutil.copytree(cohort / "lung_masks", cohort / "infection_masks")
    inputs = {"source": str(cohort), "masks": "lung_masks", "pseudonym_key_file": str(tmp_path / "key")}
    digests = [step.python_func(**inputs)]
    assert step.python_func(**inputs) == digests[0]
    for name, other in (("source", "phantom:3"), ("masks", "infection_masks"), ("pseudonym_key_file", "")):
        digests.append(step.python_func(**(inputs | {name: other})))
    assert len({*digests}) == 4


def test_a_mistake_ends_the_step_in_one_line(tmp_path):
    with pytest.raises(SystemExit) as ended:
        step.python_func(source=str(tmp_path / "nowhere"))
    assert str(ended.value).startswith(f"error: {tmp_path}/nowhere: no such folder")
