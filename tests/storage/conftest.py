"""Local stand-ins for Cloud Storage and Zenodo."""

from tests.storage.file_server import file_server
from tests.storage.gcs_server import gcs, gcs_server

__all__ = ["file_server", "gcs", "gcs_server"]
