"""What a body may be before any model looks at it."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.web.requests import DEEPEST_NESTING, strict_json

REFUSED = [
    (b'{"a":NaN}', "not JSON"),
    (b'{"a":-Infinity}', "not JSON"),
    (b'{"a":1e999}', "out of range"),  # infinity by another name
    (b'{"a":9223372036854775808}', "out of range"),  # 2^63
    (b'{"a":-9223372036854775809}', "out of range"),
    (b'{"a":' + b"9" * 5000 + b"}", "out of range"),  # int() itself would raise
    (b'{"a":1,"a":2}', "twice"),
    (b'{"b":{"a":1,"a":1}}', "twice"),
    (b'{"a":"\\u0000"}', "NUL"),
    (b'{"\\u0000":1}', "NUL"),
    (b'[["\\ud800"]]', "surrogate"),
    (b'{"a":"\x00"}', "character"),
    (b'\xff"', "UTF-8"),
    (b'"\xed\xa0\x80"', "UTF-8"),  # a surrogate, encoded
    (b"[" * 33 + b"]" * 33, "deeply"),
    (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, "deeply"),
    (b"[" * 100_000, "deeply"),
    (b"", "character 0"),
    (b"{} {}", "character"),
    (b"\xef\xbb\xbf{}", "character"),  # a byte order mark
    (b"{'a':1}", "character"),
]


@pytest.mark.parametrize(("body", "reason"), REFUSED)
def test_refuses(body: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        strict_json(body)


def test_takes_what_is_plain() -> None:
    body = '{"a":[1,-9223372036854775807,1.5,true,null],"b":{"c":"좌석 \\ud83c\\udfab"}}'
    assert strict_json(body.encode()) == {
        "a": [1, -(2**63) + 1, 1.5, True, None],
        "b": {"c": "좌석 🎫"},
    }


def test_brackets_in_text_are_not_nesting() -> None:
    assert strict_json(b'{"a":"' + b"[" * 100 + b'"}') == {"a": "[" * 100}


def test_an_escaped_backslash_before_u_is_text() -> None:
    assert strict_json(b'"\\\\u0000"') == "\\u0000"


def test_the_deepest_document_passes() -> None:
    assert strict_json(b"[" * DEEPEST_NESTING + b"]" * DEEPEST_NESTING)


@given(st.binary(max_size=200))
def test_anything_else_than_a_value_is_a_value_error(body: bytes) -> None:
    with suppress(ValueError):
        strict_json(body)
