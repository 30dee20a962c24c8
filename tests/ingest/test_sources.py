"""Ingest from Zenodo's archives and from a bucket, through real servers."""

import hashlib
import io
import zipfile
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from components.ct.cases import CASES_FILE, read_cases
from components.ingest.ingest import ingest
from components.ingest.sources import FetchOptions
from components.ingest.zenodo import COVID_CT_SEG, Record
from components.runtime.errors import InputError
from components.storage.gcs import download_prefix, upload_folder
from components.storage.http import RetryPolicy
from tests.ingest.conftest import SHAPE, mask_of
from tests.storage.gcs_server import BUCKET

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
    (cohort / "patients.csv").write_text("case_id,patient_id\ncase_0,p\ncase_1,p\n")
    (cohort / "lung_masks").mkdir()
    (cohort / "lung_masks" / "huge.nii").write_bytes(b"not needed")
    upload_folder(cohort, URI)
    gcs.requests.clear()
    from_bucket = ingest(URI, tmp_path / "out")
    from_folder = ingest(str(cohort), tmp_path / "expected")
    assert [replace(case, site="hospital") for case in from_bucket] == from_folder
    assert {case.site for case in from_bucket} == {"covid"}
    assert len(gcs.downloads()) == 9  # four pairs and patients.csv
    assert from_bucket[0].patient_id == from_bucket[1].patient_id == "p"


def test_a_second_run_uses_the_cache_without_deleted_objects(gcs, cohort, tmp_path):
    upload_folder(cohort, URI)
    ingest(URI, tmp_path / "out", options=FetchOptions(tmp_path / "cache"))
    for name in ("scans/case_3.nii.gz", "infection_masks/case_3.nii.gz"):
        gcs.delete(f"covid/{name}")
    gcs.requests.clear()
    cases = ingest(URI, tmp_path / "out", options=FetchOptions(tmp_path / "cache"))
    assert gcs.downloads() == []
    assert [case.case_id for case in cases] == ["case_0", "case_1", "case_2"]


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
