"""Fixtures: the tiny cohort and a local Cloud Storage server."""

import pytest

from tests.storage.gcs_server import gcs, gcs_server

__all__ = ["cohort", "gcs", "gcs_server"]


@pytest.fixture
def cohort(tmp_path):
    # Imported here: it loads TensorFlow, which most of these tests do not need.
    from tests.evaluate.tiny_cohort import write_cohort

    return write_cohort(tmp_path)
