"""The server that stands for Cloud Storage, for the tests of this folder."""

from tests.storage.gcs_server import gcs, gcs_server

__all__ = ["gcs", "gcs_server"]
