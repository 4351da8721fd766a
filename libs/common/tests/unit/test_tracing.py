"""One trace from request to consumer."""

import re

import pytest

from common.tracing import continued, current_trace_id, current_traceparent

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_outside_there_is_no_trace():
    assert current_traceparent() is None
    assert current_trace_id() is None


def test_inside_the_given_trace_goes_on():
    with continued(PARENT):
        assert current_trace_id() == "0af7651916cd43dd8448eb211c80319c"
        assert current_traceparent().startswith("00-0af7651916cd43dd8448eb211c80319c-")
    assert current_traceparent() is None


def test_without_one_a_new_trace_begins():
    with continued(None):
        first = current_traceparent()
    with continued(None):
        second = current_traceparent()
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", first)
    assert first != second


@pytest.mark.parametrize("header", ["", "nonsense", "00-0-0-00", PARENT[:-3], "00-" + "0" * 49])
def test_a_malformed_header_begins_a_new_trace(header):
    with continued(header):
        assert current_trace_id() not in {None, "0" * 32, "0af7651916cd43dd8448eb211c80319c"}


def test_a_trace_inside_a_trace_is_left_again():
    with continued(PARENT):
        with continued(None):
            assert current_trace_id() != "0af7651916cd43dd8448eb211c80319c"
        assert current_trace_id() == "0af7651916cd43dd8448eb211c80319c"
