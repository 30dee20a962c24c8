"""The tiny cohort, and the server that stands for Cloud Storage, as fixtures."""

import pytest

from tests.storage.gcs_server import gcs, gcs_server

__all__ = ["cohort", "gcs", "gcs_server"]


@pytest.fixture
def cohort(tmp_path):
    # Imported here, since it brings TensorFlow, which most of these tests can do without.
    from tests.evaluate.tiny_cohort import write_cohort

    return write_cohort(tmp_path)
