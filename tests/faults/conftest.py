"""What the rows need: the servers, and the small cohorts of ingest's own tests."""

from tests.ingest.conftest import cohort, save
from tests.ingest.test_sources import mirror
from tests.storage.file_server import file_server
from tests.storage.gcs_server import gcs, gcs_server

__all__ = ["cohort", "file_server", "gcs", "gcs_server", "mirror", "save"]
