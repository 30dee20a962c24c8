"""The tiny cohort as a fixture."""

import pytest


@pytest.fixture
def cohort(tmp_path):
    # Imported here, since it brings TensorFlow, which most of these tests can do without.
    from tiny_cohort import write_cohort

    return write_cohort(tmp_path)
