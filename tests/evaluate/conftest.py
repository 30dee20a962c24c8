"""The tiny cohort as a fixture."""

import pytest
from tiny_cohort import Cohort, write_cohort


@pytest.fixture
def cohort(tmp_path) -> Cohort:
    return write_cohort(tmp_path)
