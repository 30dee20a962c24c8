"""Names that identify a person never leave ingest."""

import numpy as np
import pytest

from components.check_parameters.check import check_parameters
from components.ct.cases import SKIPPED_FILE, read_cases
from components.identify.fingerprint import fingerprint_source
from components.ingest.ingest import ingest
from components.ingest.naming import Naming
from components.runtime.errors import CohortError, InputError
from components.storage.gcs import upload_folder
from tests.ingest.conftest import mask_of
from tests.ingest.dicom_series import write_series
from tests.storage.gcs_server import BUCKET, Fault

URI = f"gs://{BUCKET}/Station 7"


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "key"
    path.write_text("0123456789abcdef0123456789abcdef\n")
    return path


@pytest.fixture
def named_cohort(tmp_path, save):
    """Two scans of one patient and one of another, in files named after people."""
    folder = tmp_path / "Station 7"
    for name in ("Meier_Hans_1", "Meier_Hans_2", "Doe-Jane"):
        save(folder / "scans" / f"{name}.nii.gz")
        save(folder / "infection_masks" / f"{name}_mask.nii.gz", mask_of(1, 1))
    (folder / "patients.csv").write_text("case_id,patient_id\nMeier_Hans_1,Meier\nMeier_Hans_2,Meier\n")
    return folder


def test_ids_are_stable_hashes_that_keep_patients_and_depend_on_the_key(named_cohort, key, tmp_path):
    cases = ingest(str(named_cohort), tmp_path / "out", pseudonym_key=key)
    again = ingest(str(named_cohort), tmp_path / "again", pseudonym_key=key, workers=1)
    assert cases == again == read_cases(tmp_path / "out")
    case_ids = {case.case_id for case in cases}
    assert len(case_ids) == 3
    assert len({case.patient_id for case in cases}) == 2
    # From an independent implementation: printf case:doe-jane | openssl dgst -sha256 -hmac <key>
    assert "case-0806c36557e9" in case_ids
    key.write_text("another key of sixteen bytes")
    others = ingest(str(named_cohort), tmp_path / "out", pseudonym_key=key)
    assert not case_ids & {case.case_id for case in others}


def read_text(folder):
    return "".join(str(path) + path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file())


def test_outputs_and_logs_contain_no_names(named_cohort, key, tmp_path, save, capfd, caplog):
    save(named_cohort / "scans" / "Weiss_Eva.nii.gz")  # without a mask
    (named_cohort / "scans" / "Meier_Hans_2.nii.gz").write_bytes(b"<html>")
    (named_cohort / "scans" / "Doe-Jane.nii.gz").unlink()
    series = named_cohort / "scans" / "Doe-Jane"
    write_series(series, mask_of(1).astype(int), change=lambda k, item: setattr(item, "Modality", "MR"))
    ingest(str(named_cohort), tmp_path / "out", pseudonym_key=key, on_invalid="skip")
    assert caplog.text.count("skipped: ") == 3
    assert (tmp_path / "out" / SKIPPED_FILE).read_text().count("\n") == 3
    for text in (caplog.text, *capfd.readouterr(), read_text(tmp_path / "out")):
        for name in ("Meier", "Hans", "Doe", "Jane", "Weiss", "Eva"):
            assert name not in text


def test_an_error_contains_the_pseudonym_of_the_case_but_not_its_name(named_cohort, key, tmp_path):
    (named_cohort / "scans" / "Doe-Jane.nii.gz").write_bytes(b"<html>")
    with pytest.raises(CohortError, match=r"case (case-[0-9a-f]{12}): \1: not a (gzip|NIfTI) file") as error:
        ingest(str(named_cohort), tmp_path / "out", pseudonym_key=key)
    assert "Doe" not in str(error.value)


def test_names_of_cases_and_of_nested_folders_are_replaced_without_their_suffix_too(tmp_path):
    naming = Naming(b"0123456789abcdef")
    write_series(tmp_path / "scans" / "Meier" / "Hans 1950" / "CT", np.zeros((2, 2, 2)))
    naming.register([tmp_path / "scans/Meier", tmp_path / "scans/Doe/Jane_1.nii", tmp_path / "scans/12.nii"], tmp_path)
    message = naming.redact(f"{tmp_path}/scans/Meier/Hans 1950/CT/000_0: Meier and Jane_1; see Doe/x; 12 of Jane_12")
    assert message == (
        f"{naming.case_id('Meier')}/a folder/a folder/a slice: {naming.case_id('Meier')} and "
        f"{naming.case_id('Jane_1')}; see a folder/x; 12 of Jane_12"
    )


def test_unused_files_are_counted_without_their_names(named_cohort, key, tmp_path, caplog):
    for name in ("Weiss_Eva.mha", "Weiss_Eva.MHA", "Eva.Weiss", *(f"Weiss{k}.zip" for k in range(6))):
        (named_cohort / "scans" / name).touch()
    ingest(str(named_cohort), tmp_path / "out", pseudonym_key=key)
    assert "not used: 2 .mha, 6 .zip, 1 other (" in caplog.text
    assert "Weiss" not in caplog.text + read_text(tmp_path / "out")


def test_an_error_from_a_bucket_contains_no_object_name(named_cohort, key, tmp_path, gcs):
    upload_folder(named_cohort, URI)
    gcs.faults.append(Fault("Doe", status=403))
    with pytest.raises(InputError, match=f"{URI}: an object: .*403") as error:
        ingest(URI, tmp_path / "out", pseudonym_key=key)
    assert "Doe" not in str(error.value)


def check(source, *, pseudonym_key):
    check_parameters({"source": source, "masks": "infection_masks", "pseudonym_key_file": str(pseudonym_key)})


def ingest_to(output):
    return lambda source, **options: ingest(source, output, **options)


@pytest.mark.parametrize("in_bucket", [False, True])
@pytest.mark.parametrize(
    ("folder", "message"), [("infection_masks", "infection_masks .*found 2 folders"), ("scans", "scans .*2 folders")]
)
def test_a_wrong_folder_is_refused_without_its_name(named_cohort, key, tmp_path, gcs, in_bucket, folder, message):
    (named_cohort / folder).rename(named_cohort / "Meier (Hans): x")
    if in_bucket:
        upload_folder(named_cohort, URI)
    for step in (fingerprint_source, ingest_to(tmp_path / "out"), *([] if in_bucket else [check])):
        with pytest.raises(InputError, match=message) as error:
            step(URI if in_bucket else str(named_cohort), pseudonym_key=key)
        assert "Meier" not in str(error.value)


@pytest.mark.parametrize("in_bucket", [False, True])
def test_a_table_in_a_folder_is_refused_without_the_folder(named_cohort, key, tmp_path, gcs, in_bucket):
    (named_cohort / "Hans Meier").mkdir()
    (named_cohort / "patients.csv").rename(named_cohort / "Hans Meier" / "Patients.txt")
    if in_bucket:
        upload_folder(named_cohort, URI)
    for step in (fingerprint_source, ingest_to(tmp_path / "out")):
        with pytest.raises(InputError, match=r": Patients\.txt may list patients") as error:
            step(URI if in_bucket else str(named_cohort), pseudonym_key=key)
        assert "Meier" not in str(error.value)


def test_a_missing_or_short_key_is_refused(named_cohort, key, tmp_path):
    with pytest.raises(InputError, match=r"nokey: .*No such file.*openssl rand"):
        ingest(str(named_cohort), tmp_path / "out", pseudonym_key=tmp_path / "nokey")
    key.write_text("short\n")
    with pytest.raises(InputError, match=r"key: .* 5 bytes; expected 16 or more"):
        ingest(str(named_cohort), tmp_path / "out", pseudonym_key=key)
