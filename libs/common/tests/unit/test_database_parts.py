"""What of the database needs no server: reading errors, splitting statements, hashing bodies."""

import pymysql.err
import pytest
from pydantic import BaseModel

from common.database.errors import CheckViolation, RetryTransaction, connection_survives, translate
from common.database.session import _split_values
from common.errors import DependencyUnavailable, Problem, UniqueViolation
from common.idempotency import canonical_hash, require_same_body


class TestErrors:
    @pytest.mark.parametrize(
        ("text", "constraint"),
        [
            ("Duplicate entry 'x' for key 'PRIMARY'", "PRIMARY"),  # MariaDB
            ("Duplicate entry 'x' for key 'account.PRIMARY'", "PRIMARY"),  # MySQL 8
            ("Duplicate entry 'a.b' for key 'c.d' for key 'account.name'", "name"),
        ],
    )
    def test_a_duplicate_is_named_alike_on_both_engines(self, text: str, constraint: str) -> None:
        found = translate(pymysql.err.IntegrityError(1062, text))
        assert isinstance(found, UniqueViolation)
        assert found.constraint == constraint

    @pytest.mark.parametrize(
        ("code", "text"),
        [
            (4025, "CONSTRAINT `balance` failed for `queue`.`account`"),  # MariaDB
            (3819, "Check constraint 'balance' is violated."),  # MySQL 8
        ],
    )
    def test_a_check_is_named_alike_on_both_engines(self, code: int, text: str) -> None:
        found = translate(pymysql.err.OperationalError(code, text))
        assert isinstance(found, CheckViolation)
        assert found.constraint == "balance"

    @pytest.mark.parametrize("code", [1205, 1213])
    def test_contention_is_worth_another_try(self, code: int) -> None:
        error = pymysql.err.OperationalError(code, "try restarting transaction")
        assert isinstance(translate(error), RetryTransaction)
        assert connection_survives(error)

    @pytest.mark.parametrize(
        ("error", "survives"),
        [
            (pymysql.err.OperationalError(2013, "Lost connection"), False),
            (pymysql.err.OperationalError(1040, "Too many connections"), True),
            (pymysql.err.OperationalError(1290, "--read-only"), True),
            (pymysql.err.OperationalError(1927, "Connection was killed"), False),
            (pymysql.err.OperationalError(4031, "inactivity"), False),
            (pymysql.err.InterfaceError(0, "Not connected"), False),
            (pymysql.err.InternalError("Packet sequence number wrong"), False),
            (TimeoutError(), False),
            (ConnectionResetError(), False),
        ],
    )
    def test_a_server_that_is_away(self, error: Exception, survives: bool) -> None:
        found = translate(error)
        assert isinstance(found, DependencyUnavailable)
        assert not isinstance(found, RetryTransaction)
        assert connection_survives(error) is survives

    @pytest.mark.parametrize(
        "error",
        [
            pymysql.err.ProgrammingError(1064, "You have an error in your SQL syntax"),
            pymysql.err.DataError(1406, "Data too long"),
            TypeError("not all arguments converted"),
        ],
    )
    def test_our_own_mistakes_stay_themselves(self, error: Exception) -> None:
        assert translate(error) is error


class TestSplitValues:
    @pytest.mark.parametrize(
        ("sql", "parts"),
        [
            ("INSERT INTO a (b) VALUES (%s)", ("INSERT INTO a (b) VALUES", "(%s)", "")),
            (
                "INSERT INTO a VALUES (%s, COALESCE(%s, (1))) ON DUPLICATE KEY UPDATE b = b",
                (
                    "INSERT INTO a VALUES",
                    "(%s, COALESCE(%s, (1)))",
                    "ON DUPLICATE KEY UPDATE b = b",
                ),
            ),
            ("insert into a\nvalues\n(%s)\n", ("insert into a\nvalues", "(%s)", "")),
        ],
    )
    def test_the_row_is_found(self, sql: str, parts: tuple[str, str, str]) -> None:
        assert _split_values(sql) == parts

    @pytest.mark.parametrize("sql", ["UPDATE a SET b = %s", "INSERT INTO a VALUES (%s"])
    def test_what_has_none_is_refused(self, sql: str) -> None:
        with pytest.raises(ValueError, match="VALUES"):
            _split_values(sql)


class Body(BaseModel):
    amount: int
    note: str | None = None


class TestCanonicalHash:
    def test_spelling_does_not_matter(self) -> None:
        one = Body.model_validate_json('{"amount": 5, "note": "é"}')
        other = Body.model_validate_json('{"note":"\\u00e9","amount":5}')
        assert canonical_hash(one) == canonical_hash(other)
        assert canonical_hash(one) == canonical_hash({"note": "é", "amount": 5})
        assert len(canonical_hash(one)) == 64

    def test_content_does(self) -> None:
        hashes = {
            canonical_hash(body)
            for body in (Body(amount=5), Body(amount=6), Body(amount=5, note=""))
        }
        assert len(hashes) == 3

    def test_another_body_is_refused(self) -> None:
        require_same_body("a", "a")
        with pytest.raises(Problem) as caught:
            require_same_body("a", "b")
        assert (caught.value.status, caught.value.code) == (422, "idempotency-key-reused")
