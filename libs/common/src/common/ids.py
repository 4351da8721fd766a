"""Identifiers: UUIDv7 as lower-case text, so that later ids sort after earlier ones."""

import re

import uuid_utils

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")


def new_id() -> str:
    """A new UUIDv7."""
    return str(uuid_utils.uuid7())


def is_id(text: str) -> bool:
    """Whether the text is a UUIDv7 exactly as `new_id` writes it."""
    return _UUID.match(text) is not None
