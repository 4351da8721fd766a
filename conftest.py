"""Registers what all tests share."""

# Before pytest names the test modules below `audit/tests` by their path: it would make a package
# `audit` of that folder, and the real one could not be imported any more.
import audit

pytest_plugins = ["testkit.plugin"]

__all__ = ["audit"]
