"""Fixtures of other test packages: servers, small cohorts and models."""

from tests.ingest.conftest import cohort, save
from tests.ingest.test_sources import mirror
from tests.pipelines.deploy_programs import api, packages, state
from tests.serving.conftest import model_folder, scan
from tests.storage.file_server import file_server
from tests.storage.gcs_server import gcs, gcs_server

__all__ = [
    "api",
    "cohort",
    "file_server",
    "gcs",
    "gcs_server",
    "mirror",
    "model_folder",
    "packages",
    "save",
    "scan",
    "state",
]
