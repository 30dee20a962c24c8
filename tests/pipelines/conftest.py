"""What the tests of `deploy` need: an engine and a cluster that write down what reaches them."""

from tests.pipelines.deploy_programs import api, packages, state

__all__ = ["api", "packages", "state"]
