"""Signed tickets without a server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_service.domain import Claim
from queue_service.tickets import Tickets

OLD, NEW = b"o" * 32, b"n" * 32
CLAIM = Claim("concert", "fan", "ticket", 7, 3)


def test_a_ticket_says_what_was_signed():
    tickets = Tickets([NEW])
    assert tickets.read(tickets.sign(CLAIM), concert_id="concert", user_id="fan") == CLAIM


def test_a_ticket_of_the_key_before_is_still_good():
    token = Tickets([OLD]).sign(CLAIM)
    assert Tickets([NEW, OLD]).read(token, concert_id="concert", user_id="fan") == CLAIM
    assert Tickets([NEW]).read(token, concert_id="concert", user_id="fan") is None


@pytest.mark.parametrize(("concert", "user"), [("other", "fan"), ("concert", "other")])
def test_a_ticket_is_personal(concert, user):
    tickets = Tickets([NEW])
    assert tickets.read(tickets.sign(CLAIM), concert_id=concert, user_id=user) is None


def test_a_short_key_is_refused():
    with pytest.raises(ValueError, match="32 bytes"):
        Tickets([b"short"])
    with pytest.raises(ValueError, match="32 bytes"):
        Tickets([])


@given(st.integers(0, 10**6), st.characters(codec="ascii"))
def test_no_changed_character_goes_unnoticed(where, character):
    tickets = Tickets([NEW])
    token = tickets.sign(CLAIM)
    position = where % len(token)
    changed = token[:position] + character + token[position + 1 :]
    read = tickets.read(changed, concert_id="concert", user_id="fan")
    # The last character of base64 carries bits that mean nothing.
    assert read is None or read == CLAIM


@given(st.text(max_size=3_000))
def test_rubbish_is_no_ticket(text):
    assert Tickets([NEW]).read(text, concert_id="concert", user_id="fan") is None


def test_the_longest_user_id_fits():
    tickets = Tickets([NEW])
    claim = Claim("c" * 36, "한" * 128, "t" * 36, 10**9, 10**4)
    assert tickets.read(tickets.sign(claim), concert_id="c" * 36, user_id="한" * 128) == claim
