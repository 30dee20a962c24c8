"""The local Cloud Storage server, as a fixture."""

from tests.storage.gcs_server import gcs, gcs_server

__all__ = ["gcs", "gcs_server"]
