"""Rows of a small sound sale, and for each rule the smallest change that breaks it."""

CONCERT = "0199a000-0000-7000-8000-00000000c0de"
PERFORMANCE = "f" * 36
SOLD, FREE = "1" * 36, "2" * 36
RESERVATION, OTHER_RESERVATION = "a" * 36, "b" * 36
PAYMENT, OTHER_PAYMENT = "d" * 36, "e" * 36

TABLES = [
    "{queue}.admissions",
    "{queue}.policy_changes",
    "{queue}.outbox",
    "{concert}.seats",
    "{concert}.outbox",
    "{reservation}.seats",
    "{reservation}.reservation_seats",
    "{reservation}.reservations",
    "{reservation}.performances",
    "{reservation}.outbox",
    "{payment}.payments",
    "{payment}.ledger_entries",
    "{payment}.wallets",
    "{payment}.outbox",
]
"""What the rules read."""


def insert(table: str, **values: object) -> str:
    """An INSERT; strings that begin with ``=`` are SQL."""

    def literal(value: object) -> str:
        if isinstance(value, str):
            return value[1:] if value.startswith("=") else f"'{value}'"
        return "NULL" if value is None else str(value)

    columns = ", ".join(values)
    return f"INSERT INTO {table} ({columns}) VALUES ({', '.join(map(literal, values.values()))})"


def admission(pass_id: str, number: int, sequence: int, **values: object) -> str:
    columns = {
        "concert_id": CONCERT,
        "user_id": f"user-{sequence}",
        "epoch": 1,
        "mode": "open",
        "queued_at": "=NOW(6) - INTERVAL 1 HOUR",
        "admitted_at": f"=NOW(6) - INTERVAL 1 HOUR + INTERVAL {sequence} MINUTE",
    }
    return insert(
        "{queue}.admissions",
        pass_id=pass_id,
        number=number,
        sequence=sequence,
        **(columns | values),
    )


def reservation(reservation_id: str, **values: object) -> str:
    columns = {
        "user_id": "fan",
        "concert_id": CONCERT,
        "performance_id": PERFORMANCE,
        "pass_id": "9" * 36,
        "state": "confirmed",
        "total": 100,
        "currency": "KRW",
        "hold_expires_at": "=NOW(6) + INTERVAL 5 MINUTE",
        "payment_id": PAYMENT,
        "version": 2,
        "lane_position": 1,
        "requested_at": "=NOW(6) - INTERVAL 1 MINUTE",
        "created_at": "=NOW(6) - INTERVAL 1 MINUTE",
        "changed_at": "=NOW(6) - INTERVAL 30 SECOND",
        "idempotency_key": reservation_id[:4],
        "body_hash": "0" * 64,
        "answer_status": 201,
        "answer_body": "{{}}",
    }
    return insert("{reservation}.reservations", reservation_id=reservation_id, **(columns | values))


def reserved_seat(reservation_id: str, seat_id: str) -> str:
    return insert(
        "{reservation}.reservation_seats",
        reservation_id=reservation_id,
        seat_id=seat_id,
        position=0,
        label="A 1",
        price=100,
    )


def payment(payment_id: str, **values: object) -> str:
    columns = {
        "reservation_id": RESERVATION,
        "user_id": "fan",
        "concert_id": CONCERT,
        "performance_id": PERFORMANCE,
        "seat_ids": "[]",
        "amount": 100,
        "state": "succeeded",
        "live_reservation_id": RESERVATION,
        "version": 2,
        "idempotency_key": payment_id[:4],
        "body_hash": "0" * 64,
        "answer_status": 201,
        "answer_body": "{{}}",
        "created_at": "=NOW(6) - INTERVAL 1 MINUTE",
        "settled_at": "=NOW(6) - INTERVAL 30 SECOND",
    }
    return insert("{payment}.payments", payment_id=payment_id, **(columns | values))


def transfer(name: str, accounts: str, amount: int, kind: str, payment_id: str | None) -> list[str]:
    debit, credit = accounts.split(" > ")
    return [
        insert(
            "{payment}.ledger_entries",
            entry_id=f"{name}{side}".ljust(36, "0"),
            transfer_id=name.ljust(36, "0"),
            account=account,
            amount=signed,
            kind=kind,
            payment_id=payment_id,
            created_at="=NOW(6)",
        )
        for side, account, signed in (("d", debit, -amount), ("c", credit, amount))
    ]


def outbox(service: str) -> str:
    return insert(
        f"{{{service}}}.outbox",
        destination="rabbitmq",
        event_id="0" * 36,
        source=service,
        type="x",
        exchange="x",
        routing_key="x",
        subject="x",
        occurred_at="=NOW(6) - INTERVAL 5 MINUTE",
        payload="{{}}",
    )


def seat(seat_id: str, position: int, state: str, owner: str | None) -> list[str]:
    return [
        insert(
            "{reservation}.seats",
            seat_id=seat_id,
            performance_id=PERFORMANCE,
            position=position,
            row_key="A",
            label="A 1",
            category="VIP",
            price=100,
            state=state,
            reservation_id=owner,
            version=5,
        ),
        insert(
            "{concert}.seats",
            performance_id=PERFORMANCE,
            seat_id=seat_id,
            position=position,
            seat_guid=seat_id,
            label="A 1",
            category="VIP",
            price=100,
            row_name="A",
            state=state,
            state_version=5,
        ),
    ]


def sound_sale() -> list[str]:
    """Two seats, one of them bought by a fan who charged 150 and paid 100."""
    return [
        insert(
            "{queue}.policy_changes",
            concert_id=CONCERT,
            version=1,
            changed_at="=NOW(6) - INTERVAL 1 DAY",
            changed_by="admin",
            mode="open",
            max_active=1,
            admit_per_minute=60,
            new_policy="{{}}",
        ),
        admission(
            "9" * 36,
            number=1,
            sequence=1,
            ended_at="=NOW(6) - INTERVAL 58 MINUTE",
            end_cause="purchased",
        ),
        admission("8" * 36, number=3, sequence=2),
        insert(
            "{reservation}.performances",
            performance_id=PERFORMANCE,
            concert_id=CONCERT,
            sale="open",
            sale_version=1,
            currency="KRW",
            max_seats_per_fan=4,
            hold_seconds=300,
            parts=1,
            parts_received=1,
            seats_total=2,
            seats_left=1,
            inventory_version=5,
            lane_position=1,
            cancelling=0,
            created_at="=NOW(6)",
        ),
        *seat(SOLD, 0, "sold", RESERVATION),
        *seat(FREE, 1, "available", None),
        reservation(RESERVATION),
        reserved_seat(RESERVATION, SOLD),
        payment(PAYMENT),
        insert("{payment}.wallets", user_id="fan", balance=50, version=2),
        *transfer("charge", "funding > wallet:fan", 150, "charge", None),
        *transfer("debit", "wallet:fan > clearing", 100, "payment", PAYMENT),
        *transfer("settle", "clearing > revenue", 100, "settlement", PAYMENT),
    ]


_SECOND_OWNER = [
    reservation(OTHER_RESERVATION, payment_id=OTHER_PAYMENT, lane_position=2),
    reserved_seat(OTHER_RESERVATION, SOLD),
]
_OPEN_DEBIT = [
    reservation(OTHER_RESERVATION, state="held", payment_id=None, lane_position=2),
    payment(
        OTHER_PAYMENT,
        reservation_id=OTHER_RESERVATION,
        live_reservation_id=OTHER_RESERVATION,
        state="authorized",
        settled_at=None,
        answer_status=None,
        answer_body=None,
    ),
]

BROKEN: dict[str, list[str]] = {
    "one-live-reservation-a-seat": _SECOND_OWNER,
    "seats-match-reservations": [
        (
            "UPDATE {reservation}.seats SET reservation_id = NULL, state = 'available' "
            f"WHERE seat_id = '{SOLD}'"
        )
    ],
    "seats-left-is-counted": ["UPDATE {reservation}.performances SET seats_left = 2"],
    "confirmed-has-one-payment": ["DELETE FROM {payment}.payments"],
    "succeeded-has-one-reservation": ["UPDATE {reservation}.reservations SET state = 'expired'"],
    "balance-equals-ledger": ["UPDATE {payment}.wallets SET balance = 51"],
    "transfers-balance": ["DELETE FROM {payment}.ledger_entries WHERE account = 'funding'"],
    "no-negative-balance": ["UPDATE {payment}.wallets SET balance = -1"],
    "clearing-holds-the-authorized": _OPEN_DEBIT,
    "revenue-is-the-succeeded": ["UPDATE {payment}.payments SET amount = 90"],
    "one-debit-one-refund": [
        *transfer("again", "wallet:fan > clearing", 1, "payment", OTHER_PAYMENT),
        (
            "UPDATE {payment}.ledger_entries SET payment_id = NULL WHERE kind = 'payment' "
            f"AND payment_id = '{PAYMENT}'"
        ),
    ],
    "every-debit-ends": _OPEN_DEBIT,
    "holds-end-in-time": [
        reservation(
            OTHER_RESERVATION,
            state="held",
            payment_id=None,
            lane_position=2,
            hold_expires_at="=NOW(6) - INTERVAL 6 SECOND",
        )
    ],
    "confirmed-in-time": [
        "UPDATE {reservation}.reservations SET changed_at = hold_expires_at + INTERVAL 1 SECOND"
    ],
    "decided-in-broker-order": [
        reservation(
            OTHER_RESERVATION,
            state="rejected",
            payment_id=None,
            hold_expires_at=None,
            lane_position=2,
            requested_at="=NOW(6) - INTERVAL 2 MINUTE",
        )
    ],
    "admitted-in-order": [admission("7" * 36, number=2, sequence=3)],
    "at-most-max-active-inside": [admission("7" * 36, number=4, sequence=3)],
    "one-reservation-a-request": [
        "ALTER TABLE {reservation}.reservations DROP INDEX reservations_idempotency",
        reservation(
            OTHER_RESERVATION,
            payment_id=OTHER_PAYMENT,
            lane_position=2,
            idempotency_key=RESERVATION[:4],
        ),
    ],
    "one-payment-a-request": [
        "ALTER TABLE {payment}.payments DROP INDEX payments_request",
        payment(
            OTHER_PAYMENT,
            state="failed",
            live_reservation_id=None,
            settled_at=None,
            idempotency_key=PAYMENT[:4],
        ),
    ],
    "nothing-waits-in-an-outbox": [outbox("concert")],
    "availability-never-ahead": ["UPDATE {concert}.seats SET state_version = 6"],
    "availability-agrees": [
        f"UPDATE {{concert}}.seats SET state = 'held' WHERE seat_id = '{SOLD}'"
    ],
}
"""By rule: what the sale above must suffer for the rule to speak."""
