"""Ids are UUIDv7 text in one spelling, sorted by age."""

import uuid

import pytest

from common.ids import is_id, new_id

ID = "01a1fbe6-3629-740e-8b7b-7a3db03d10cb"  # fixed: xdist's workers must name tests alike


def test_later_ids_sort_after_earlier_ones() -> None:
    ids = [new_id() for _ in range(10_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


def test_an_id_is_a_uuid_of_version_seven() -> None:
    id_ = new_id()
    assert is_id(id_)
    assert uuid.UUID(id_).version == 7


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "42ff8502-96b6-4585-bfb9-f30b483c0303",
        ID.upper() + "A",
        ID.replace("-", ""),
        ID + "\n",
        "{" + ID + "}",
        "0190e4c5-7e2a-7000-8000-00000000000G",
        "0190E4C5-7E2A-7000-8000-00000000000A",
        "0190e4c5-7e2a-7000-c000-00000000000a",  # variant
        "\u0661190e4c5-7e2a-7000-8000-00000000000a"[:36],  # a digit, but not one of ours
    ],
)
def test_anything_else_is_none(text: str) -> None:
    assert not is_id(text)
