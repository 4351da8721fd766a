"""Registers what all tests share."""

pytest_plugins = ["testkit.plugin"]
