"""Names that tell who somebody is stay behind."""

import pytest

from components.ct.cases import read_cases
from components.ingest.ingest import SKIPPED, ingest
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
def named(tmp_path, save):
    """Two scans of one patient and one of another, under people's names."""
    folder = tmp_path / "Station 7"
    for name in ("Meier_Hans_1", "Meier_Hans_2", "Doe-Jane"):
        save(folder / "scans" / f"{name}.nii.gz")
        save(folder / "infection_masks" / f"{name}_mask.nii.gz", mask_of(1, 1))
    (folder / "patients.csv").write_text("case_id,patient_id\nMeier_Hans_1,Meier\nMeier_Hans_2,Meier\n")
    return folder


def test_ids_are_stable_hashes_and_patients_stay_together(named, key, tmp_path):
    cases = ingest(str(named), tmp_path / "out", pseudonym_key=key)
    again = ingest(str(named), tmp_path / "again", pseudonym_key=key, workers=1)
    assert cases == again == read_cases(tmp_path / "out")
    assert len({case.case_id for case in cases}) == 3
    assert len({case.patient_id for case in cases}) == 2
    # By an independent implementation: printf case:doe-jane | openssl dgst -sha256 -hmac <key>
    assert "case-0806c36557e9" in {case.case_id for case in cases}


def test_another_key_gives_other_ids(named, key, tmp_path):
    first = {case.case_id for case in ingest(str(named), tmp_path / "out", pseudonym_key=key)}
    key.write_text("another key of sixteen bytes")
    assert not first & {case.case_id for case in ingest(str(named), tmp_path / "out", pseudonym_key=key)}


def all_text(folder):
    return "".join(str(path) + path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file())


def test_no_name_is_in_the_output_or_in_what_is_printed(named, key, tmp_path, save, capfd):
    save(named / "scans" / "Weiss_Eva.nii.gz")  # no mask
    (named / "scans" / "Meier_Hans_2.nii.gz").write_bytes(b"<html>")
    (named / "scans" / "Doe-Jane.nii.gz").unlink()
    write_series(
        named / "scans" / "Doe-Jane", mask_of(1).astype(int), change=lambda k, item: setattr(item, "Modality", "MR")
    )
    ingest(str(named), tmp_path / "out", pseudonym_key=key, on_invalid="skip")
    printed = "".join(capfd.readouterr())
    assert printed.count("skipped: ") == 3
    assert (tmp_path / "out" / SKIPPED).read_text().count("\n") == 3
    for text in (printed, all_text(tmp_path / "out")):
        for name in ("Meier", "Hans", "Doe", "Jane", "Weiss", "Eva"):
            assert name not in text


def test_errors_name_cases_by_their_ids(named, key, tmp_path):
    (named / "scans" / "Doe-Jane.nii.gz").write_bytes(b"<html>")
    with pytest.raises(CohortError, match=r"case (case-[0-9a-f]{12}): \1: not a gzip file") as raised:
        ingest(str(named), tmp_path / "out", pseudonym_key=key)
    assert "Doe" not in str(raised.value)


def test_errors_of_a_bucket_name_no_object(named, key, tmp_path, gcs):
    upload_folder(named, URI)
    gcs.faults.append(Fault("Doe", status=403))
    with pytest.raises(InputError, match=f"{URI}: an object: not permitted") as raised:
        ingest(URI, tmp_path / "out", pseudonym_key=key)
    assert "Doe" not in str(raised.value)


def test_a_key_that_is_not_there_or_too_short_is_refused(named, key, tmp_path):
    with pytest.raises(InputError, match=r"nokey: the key for pseudonyms cannot be read .*openssl rand"):
        ingest(str(named), tmp_path / "out", pseudonym_key=tmp_path / "nokey")
    key.write_text("short\n")
    with pytest.raises(InputError, match="holds 5 bytes; a key for pseudonyms has 16 or more"):
        ingest(str(named), tmp_path / "out", pseudonym_key=key)
