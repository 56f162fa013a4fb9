"""A deployment configuration refuses what cannot be a limit, where it was written."""

from typing import Any

import pytest

from driftline import DeploymentConfigBuilder
from driftline.errors import InvalidInputError


@pytest.mark.parametrize("amount", [2, "2 gigs", None])
def test_an_amount_of_memory_is_a_text_with_its_unit(amount: Any):
    with pytest.raises(InvalidInputError, match="'512Mi' or '2Gi'"):
        DeploymentConfigBuilder().memory(amount)


@pytest.mark.parametrize("cores", [0, -1, "two", float("nan"), float("inf"), True])
def test_cores_are_a_number_above_zero(cores: Any):
    with pytest.raises(InvalidInputError, match="give a number above 0"):
        DeploymentConfigBuilder().cpus(cores)


def test_a_sidekick_is_a_model_and_not_its_name():
    name: Any = "shelf"
    with pytest.raises(InvalidInputError, match=r"as upload_model\(\) returned it, not 'shelf'"):
        DeploymentConfigBuilder().sidekick_cpus(name, 1)
