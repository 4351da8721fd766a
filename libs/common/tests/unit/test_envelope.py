"""CloudEvents attributes on both transports, and the golden files."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.envelope import ATTEMPT_HEADER, Envelope, MalformedEnvelope, attempt_of
from common.events import REGISTRY, PaymentRecord

ENVELOPE = Envelope(
    id="0193f5a0-0000-7000-8000-0000000000ff",
    type="reservation.held.v1",
    source="reservation",
    subject="0193f5a0-0000-7000-8000-000000000001",
    time=datetime(2026, 11, 21, 12, tzinfo=UTC),
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)
AMQP = {
    "cloudEvents:specversion": "1.0",
    "cloudEvents:id": "0193f5a0-0000-7000-8000-0000000000ff",
    "cloudEvents:type": "reservation.held.v1",
    "cloudEvents:source": "reservation",
    "cloudEvents:subject": "0193f5a0-0000-7000-8000-000000000001",
    "cloudEvents:time": "2026-11-21T12:00:00.000000Z",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}


class TestAmqp:
    def test_the_headers_are_these(self):
        assert ENVELOPE.to_amqp() == AMQP

    def test_they_are_read_back(self):
        assert Envelope.from_amqp(AMQP) == ENVELOPE

    def test_the_attempt_travels(self):
        again = ENVELOPE.next_attempt()
        assert again.to_amqp() == AMQP | {ATTEMPT_HEADER: 2}
        assert Envelope.from_amqp(again.to_amqp()).attempt == 2

    def test_unknown_headers_are_ignored(self):
        assert Envelope.from_amqp(AMQP | {"x-death": [], "cloudEvents:new": "1"}) == ENVELOPE

    def test_a_time_elsewhere_is_the_same_time(self):
        korean = ENVELOPE.time.astimezone(timezone(timedelta(hours=9))).isoformat()
        assert Envelope.from_amqp(AMQP | {"cloudEvents:time": korean}) == ENVELOPE

    @pytest.mark.parametrize("name", ["specversion", "id", "type", "source", "subject", "time"])
    @pytest.mark.parametrize("value", [None, "", 7])
    def test_every_attribute_is_required(self, name, value):
        with pytest.raises(MalformedEnvelope):
            Envelope.from_amqp(AMQP | {f"cloudEvents:{name}": value})

    @pytest.mark.parametrize("time", ["yesterday", "2026-11-21T12:00:00", "2026-13-01T00:00:00Z"])
    def test_a_time_must_be_one_and_name_its_zone(self, time):
        with pytest.raises(MalformedEnvelope):
            Envelope.from_amqp(AMQP | {"cloudEvents:time": time})

    def test_another_version_of_cloudevents_is_not_guessed_at(self):
        with pytest.raises(MalformedEnvelope):
            Envelope.from_amqp(AMQP | {"cloudEvents:specversion": "2.0"})

    @given(st.one_of(st.none(), st.text(), st.integers(max_value=0), st.binary()))
    def test_nonsense_for_an_attempt_counts_as_the_first(self, value):
        assert attempt_of({ATTEMPT_HEADER: value}) == 1


class TestKafka:
    def test_it_is_read_back(self):
        headers = [(name, value.encode()) for name, value in ENVELOPE.to_kafka().items()]
        assert ("ce_type", b"reservation.held.v1") in headers
        assert ("content-type", b"application/json") in headers
        assert Envelope.from_kafka(headers) == ENVELOPE

    def test_bytes_that_are_no_text_are_malformed(self):
        with pytest.raises(MalformedEnvelope):
            Envelope.from_kafka([("ce_id", b"\xff")])


class TestGoldenFiles:
    @pytest.fixture
    def golden(self, repository):
        folder = repository / "libs/common/tests/golden"
        return lambda name: (folder / f"{name}.json").read_text()

    @pytest.mark.parametrize("type_", sorted(REGISTRY))
    def test_every_event_has_one_that_says_all_it_can_say(self, golden, type_):
        text = golden(type_)
        event = REGISTRY[type_].model_validate_json(text)
        assert json.loads(event.model_dump_json()) == json.loads(text)

    @pytest.mark.parametrize("type_", ["payment.succeeded.v1", "payment.refunded.v1"])
    def test_the_streams_records_too(self, golden, type_):
        text = golden(f"stream.{type_}")
        record = PaymentRecord.model_validate_json(text)
        assert record.type == type_
        assert json.loads(record.model_dump_json()) == json.loads(text)

    @pytest.mark.parametrize("type_", sorted(REGISTRY))
    def test_a_new_field_is_ignored_and_a_missing_one_is_not(self, golden, type_):
        data = json.loads(golden(type_))
        REGISTRY[type_].model_validate(data | {"added_later": 1})
        for name, field in REGISTRY[type_].model_fields.items():
            if field.is_required():
                without = {key: value for key, value in data.items() if key != name}
                with pytest.raises(ValueError, match=name):
                    REGISTRY[type_].model_validate_json(json.dumps(without))
