"""Ingest from Zenodo's archives and from a bucket, through real servers."""

import hashlib
import io
import re
import shutil
import zipfile
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from components.ct.cases import CASES_FILE, read_cases, read_skipped
from components.identify.fingerprint import fingerprint_source
from components.ingest.ingest import ingest
from components.ingest.sources import FetchOptions
from components.ingest.zenodo import COVID_CT_SEG, Record
from components.runtime.errors import InputError
from components.storage.gcs import download_prefix, upload_folder
from components.storage.http import RetryPolicy
from tests.ingest.conftest import SHAPE, mask_of
from tests.storage.gcs_server import BUCKET, Fault

SHORT_RETRIES = RetryPolicy(
    connect_timeout_s=1, read_timeout_s=1, stall_timeout_s=0.5, initial_backoff_s=0.01, max_backoff_s=0.05
)
URI = f"gs://{BUCKET}/covid"


def nifti_bytes(voxels):
    return nib.Nifti1Image(voxels, np.diag([-1.0, 1, 3, 1])).to_bytes()


def zip_bytes(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def mirror(file_server, tmp_path) -> FetchOptions:
    """Serve a mirror of the 20-case set with three small cases, and return the options to fetch from it."""
    names = ["coronacases_001", "radiopaedia_10_85902_1", "radiopaedia_10_85902_3"]
    draw = np.random.default_rng(2)
    scans = {f"{name}.nii": nifti_bytes(draw.integers(-1000, 400, SHAPE).astype(np.int16)) for name in names}
    for archive, labels in {
        "Infection_Mask.zip": (1,),
        "Lung_Mask.zip": (1, 2),
        "Lung_and_Infection_Mask.zip": (1, 2, 3, 3),
    }.items():
        masks = {f"{name}.nii": nifti_bytes(mask_of(*labels)) for name in names}
        file_server.files[archive] = zip_bytes(masks | {"__MACOSX/._x.nii": b"junk"})
    file_server.files["COVID-19-CT-Seg_20cases.zip"] = zip_bytes(scans)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in file_server.files.items()}
    return FetchOptions(tmp_path / "cache", Record(file_server.url, digests), SHORT_RETRIES)


def test_the_published_record_has_a_digest_for_each_archive():
    assert COVID_CT_SEG.base_url == "https://zenodo.org/records/3757476/files"
    assert len(COVID_CT_SEG.sha256) == 4
    assert all(len(digest) == 64 for digest in COVID_CT_SEG.sha256.values())


def test_zenodo_gives_paired_cases_with_sites_and_patients(mirror, tmp_path):
    cases = ingest("zenodo", tmp_path / "out", options=mirror)
    assert [(case.case_id, case.site) for case in cases] == [
        ("coronacases_001", "coronacases"),
        ("radiopaedia_10_85902_1", "radiopaedia"),
        ("radiopaedia_10_85902_3", "radiopaedia"),
    ]
    assert cases[1].patient_id == cases[2].patient_id
    assert sorted(path.name for path in (tmp_path / "cache").rglob("*.zip")) == [
        "COVID-19-CT-Seg_20cases.zip",
        "Infection_Mask.zip",
    ]


def test_masks_selects_the_archive_and_label_the_lesion(mirror, tmp_path):
    (case, *_) = ingest("zenodo", tmp_path / "out", masks="Lung_and_Infection_Mask", label=3, options=mirror)
    mask = np.asanyarray(nib.load(tmp_path / "out" / case.mask).dataobj)
    np.testing.assert_array_equal(mask, mask_of(0, 0, 1, 1))


def test_a_mirror_is_given_by_its_address(mirror, file_server, tmp_path):
    unreachable = replace(mirror, record=mirror.record.with_base_url("http://127.0.0.1:9/"))
    ingest(f"zenodo:{file_server.url}/", tmp_path / "out", options=unreachable)
    assert {name for name, _ in file_server.requests} == {"COVID-19-CT-Seg_20cases.zip", "Infection_Mask.zip"}


def test_unknown_masks_are_refused_before_any_download(mirror, file_server, tmp_path):
    with pytest.raises(InputError, match=r"lesions.*expected infection_mask, lung_mask, lung_and"):
        ingest("zenodo", tmp_path / "out", masks="lesions", options=mirror)
    assert file_server.requests == []


def test_a_bucket_gives_the_same_cohort_as_a_folder(gcs, cohort, tmp_path):
    (cohort / "Patients.CSV").write_text("case_id;patient_id\ncase_0;p\ncase_1; P\n")
    (cohort / "lung_masks").mkdir()
    (cohort / "lung_masks" / "huge.nii").write_bytes(b"not needed")
    upload_folder(cohort, URI)
    gcs.requests.clear()
    from_bucket = ingest(URI, tmp_path / "out")
    from_folder = ingest(str(cohort), tmp_path / "expected")
    assert [replace(case, site="hospital") for case in from_bucket] == from_folder
    assert {case.site for case in from_bucket} == {"covid"}
    assert len(gcs.downloads()) == 9  # four pairs and the table of patients
    assert from_bucket[0].patient_id == from_bucket[1].patient_id == "p"


@pytest.mark.parametrize("masks", ["lesions", "scans"])
def test_wrong_masks_are_refused_with_the_folders_of_the_bucket_before_any_download(gcs, cohort, tmp_path, masks):
    upload_folder(cohort, URI)
    gcs.requests.clear()
    with pytest.raises(InputError, match=rf"^{URI}: .*{masks}.*found infection_masks, scans"):
        ingest(URI, tmp_path / "out", masks=masks)
    assert gcs.downloads() == []


def damage_scan(cohort):
    (cohort / "scans" / "case_1.nii.gz").write_bytes(b"damaged")


def misspell_patients(cohort):
    (cohort / "patients.csv").write_text("case_id,patient_id\nmissing,p\n")


def remove_scans(cohort):
    shutil.rmtree(cohort / "scans")
    (cohort / "scans").mkdir()
    (cohort / "scans" / "a.png").touch()


@pytest.mark.parametrize(
    ("change", "name"),
    [(damage_scan, "/scans/case_1.nii.gz"), (misspell_patients, "/patients.csv"), (remove_scans, "/scans")],
)
def test_an_error_names_the_file_as_the_user_knows_it(gcs, cohort, tmp_path, caplog, change, name):
    change(cohort)
    upload_folder(cohort, URI)
    with pytest.raises(InputError, match=f"{URI}{name}: ") as error:
        ingest(f"{URI}/", tmp_path / "out")
    assert str(tmp_path) not in str(error.value)
    if change is damage_scan:
        ingest(URI, tmp_path / "out", on_invalid="skip")
        assert f"skipped: case case_1: {URI}{name}: " in caplog.text


def test_an_error_in_an_archive_names_the_source(mirror, file_server, tmp_path):
    archive = zip_bytes({"coronacases_001.nii": b"damaged"})
    file_server.files["Infection_Mask.zip"] = archive
    digests = {**mirror.record.sha256, "Infection_Mask.zip": hashlib.sha256(archive).hexdigest()}
    options = replace(mirror, record=replace(mirror.record, sha256=digests))
    with pytest.raises(InputError, match=r"zenodo/infection_masks/coronacases_001\.nii: ") as error:
        ingest("zenodo", tmp_path / "out", options=options)
    assert str(tmp_path) not in str(error.value)


@pytest.mark.parametrize("source", ["https://zenodo.org/records/3757476", "s3://bucket/x", "http:/host/x", "file:///x"])
def test_another_address_is_refused_as_given_with_the_sources(tmp_path, source):
    with pytest.raises(InputError, match=f"^{source}: .*gs://.*zenodo:<address>"):
        ingest(source, tmp_path / "out")


@pytest.mark.parametrize("source", ["GS://hospital/covid", "gs:/hospital/covid", "gs:hospital", "Gs://hospital"])
def test_a_misspelled_scheme_is_not_taken_for_a_folder(tmp_path, source):
    with pytest.raises(InputError, match="expected gs://bucket/prefix"):
        ingest(source, tmp_path / "out")


def test_a_second_run_uses_the_cache_without_deleted_objects(gcs, cohort, tmp_path):
    upload_folder(cohort, URI)
    ingest(URI, tmp_path / "out", options=FetchOptions(tmp_path / "cache"))
    for name in ("scans/case_3.nii.gz", "infection_masks/case_3.nii.gz"):
        gcs.delete(f"covid/{name}")
    gcs.requests.clear()
    cases = ingest(URI, tmp_path / "out", options=FetchOptions(tmp_path / "cache"))
    assert gcs.downloads() == []
    assert [case.case_id for case in cases] == ["case_0", "case_1", "case_2"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("scans/x//y.txt", "not used: scans/x/ "),
        ("lung_masks//y.nii", "not used: lung_masks/ "),
        ("infection_masks/x//1", "not used: infection_masks/x/ "),
        ("scans/./y.json", "not used: scans/y.json "),
        ("scans/../y.txt", "not used: scans/../ "),
        ("scans/.git//y", ""),
        ("scans/x//y.nii.gz", "empty"),
        ("infection_masks//y.nii", "empty"),
        ("scans/x//1.dcm", "empty"),
        ("scans/x//1.2.840.113", "empty"),
        ("scans/x/../IM1", r"'\.\.'"),
        ("scans/./y.nii", r"'\.'"),
    ],
)
def test_an_object_whose_name_no_file_can_have_is_refused_only_if_it_may_be_a_scan(gcs, cohort, tmp_path, name, reason):
    upload_folder(cohort, URI)
    gcs.put("covid/scans/stray", b"1")
    # Cloud Storage accepts such names, the emulator does not.
    edit = Fault("prefix=covid", edit=lambda body: body.replace(b"scans/stray", name.encode()), times=9)
    gcs.faults.append(edit)
    if not reason or reason.startswith("not used"):
        assert len(ingest(URI, tmp_path / "out")) == 4
        assert "".join(read_skipped(tmp_path / "out")).startswith(reason)
        return
    for step in (fingerprint_source, lambda source: ingest(source, tmp_path / "out")):
        with pytest.raises(InputError, match=f"^{URI}/{re.escape(name)}: .*{reason}.*rename"):
            step(URI)
    assert gcs.downloads() == []


def test_push_to_uploads_the_output_with_the_case_table_last(gcs, cohort, tmp_path):
    cases = ingest(str(cohort), tmp_path / "out", push_to=URI)
    assert gcs.names()[-1] == f"covid/{CASES_FILE}"
    download_prefix(URI, tmp_path / "back")
    assert read_cases(tmp_path / "back") == cases
    for case in cases:
        case.verified_scan(tmp_path / "back")


def test_the_pushed_output_is_a_source_with_the_same_patients(gcs, cohort, tmp_path):
    (cohort / "patients.csv").write_text('case_id,patient_id\ncase_0,"p, 1"\ncase_1,"p, 1"\n')
    cases = ingest(str(cohort), tmp_path / "out", push_to=URI)
    again = ingest(URI, tmp_path / "again", masks="masks")
    assert [replace(case, site="hospital") for case in again] == cases
    assert again[0].patient_id == again[1].patient_id == "p, 1"
