"""What tests of plans share."""

import pytest

from fyc.plan.job import Job
from tests.plan.jobs import make_job


@pytest.fixture
def job_70b() -> Job:
    """Llama-3.1-70B on 512 H100s."""
    return make_job()
