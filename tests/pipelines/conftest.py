"""Fixtures for the deploy tests: a container engine and a cluster that record their calls."""

from tests.pipelines.deploy_programs import api, packages, state

__all__ = ["api", "packages", "state"]
