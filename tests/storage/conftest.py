"""The servers that stand for Cloud Storage and for Zenodo, for the tests of this folder."""

from tests.storage.file_server import file_server
from tests.storage.gcs_server import gcs, gcs_server

__all__ = ["file_server", "gcs", "gcs_server"]
