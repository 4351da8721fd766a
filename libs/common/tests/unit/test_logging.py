"""Log lines are JSON, carry the trace, and give away neither secrets nor people."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from common.logging import configure_logging, get_logger, mask_text
from common.tracing import continued

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJmYW4ifQ.c2lnbmF0dXJl"


@pytest.fixture(autouse=True)
def configured() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    configure_logging("payment", "payment-1", "INFO")
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_says_who_when_and_in_which_trace(capsys: pytest.CaptureFixture[str]) -> None:
    with continued(TRACE):
        get_logger("here").info("seat-sold", seat_id="s1", milliseconds=1.5)
    (line,) = lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "seat-sold",
        "level": "info",
        "logger": "here",
        "service": "payment",
        "instance": "payment-1",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "seat_id": "s1",
        "milliseconds": 1.5,
    }


def test_library_logs_look_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    with continued(TRACE):
        logging.getLogger("aiormq").warning("lost %s", "connection")
    (line,) = lines(capsys)
    assert (line["event"], line["service"]) == ("lost connection", "payment")
    assert line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


def test_below_the_level_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    get_logger("here").debug("detail")
    assert lines(capsys) == []


@pytest.mark.parametrize(
    "name",
    [
        "authorization", "Authorization", "access_token", "queue_pass", "Queue-Pass", "cookie",
        "database_password", "secret", "private_key", "user_id", "user", "sub", "email",
        "idempotency_key",
    ],
)  # fmt: skip
def test_fields_that_name_a_secret_are_masked(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    get_logger("here").info("event", **{name: "hunter2"}, nested=[{"deep": {name: "hunter2"}}])
    text = capsys.readouterr().err
    assert "hunter2" not in text
    assert text.count("***") == 2


def test_secrets_are_masked_by_shape_wherever_they_stand(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = get_logger("here")
    log.info(
        " ".join(("got", TOKEN)), header=f"Bearer {TOKEN}", items=[TOKEN], url="amqp://me:pw@host/"
    )
    try:
        raise ValueError(f"cannot decode {TOKEN}")
    except ValueError:
        log.exception("failed")
    logging.getLogger("library").error("sent Authorization: Bearer abc.def")
    text = capsys.readouterr().err
    for secret in (TOKEN, "eyJ", "me:pw", "abc.def"):
        assert secret not in text


def test_names_that_merely_contain_user_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    get_logger("here").info("event", users=3)
    assert lines(capsys)[0]["users"] == 3


def test_what_cannot_be_json_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    loop: list[Any] = []
    loop.append(loop)
    get_logger("here").info("event", thing=object, loop=loop)
    assert lines(capsys)[0]["thing"] == "<class 'object'>"


def test_mask_text_leaves_plain_text_alone() -> None:
    assert mask_text("seat A-12 of 3,000, http://127.0.0.1:8080/x") == (
        "seat A-12 of 3,000, http://127.0.0.1:8080/x"
    )
