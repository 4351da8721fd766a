"""Money is neither made nor lost."""

from typing import ClassVar

from audit.rule import QueryRule


class BalanceEqualsLedger(QueryRule):
    """A wallet shows another balance than its entries add up to: a posting was lost or doubled."""

    invariant: ClassVar[int] = 2
    sql: ClassVar[str] = """
        SELECT w.user_id, w.balance, COALESCE(l.total, 0) AS ledger
        FROM {payment}.wallets w
        LEFT JOIN (
            SELECT account, SUM(amount) AS total FROM {payment}.ledger_entries GROUP BY account
        ) l ON l.account = CONCAT('wallet:', w.user_id)
        WHERE w.balance <> COALESCE(l.total, 0)
    """


class TransfersBalance(QueryRule):
    """A transfer took from one account without giving to another: money was made or lost."""

    invariant: ClassVar[int] = 2
    sql: ClassVar[str] = """
        SELECT transfer_id, SUM(amount) AS total, COUNT(*) AS entries
        FROM {payment}.ledger_entries GROUP BY transfer_id
        HAVING SUM(amount) <> 0 OR COUNT(*) <> 2
    """


class NoNegativeBalance(QueryRule):
    """A fan spent money that was not there."""

    invariant: ClassVar[int] = 2
    sql: ClassVar[str] = "SELECT user_id, balance FROM {payment}.wallets WHERE balance < 0"


class ClearingHoldsTheAuthorized(QueryRule):
    """Money between debit and outcome is not what the open payments say."""

    invariant: ClassVar[int] = 2
    sql: ClassVar[str] = """
        SELECT ledger.total AS clearing, payments.total AS authorized FROM
        (SELECT COALESCE(SUM(amount), 0) AS total FROM {payment}.ledger_entries
            WHERE account = 'clearing') ledger,
        (SELECT COALESCE(SUM(amount), 0) AS total FROM {payment}.payments
            WHERE state = 'authorized') payments
        WHERE ledger.total <> payments.total
    """


class RevenueIsTheSucceeded(QueryRule):
    """What we earned is not what the succeeded payments say."""

    invariant: ClassVar[int] = 2
    sql: ClassVar[str] = """
        SELECT ledger.total AS revenue, payments.total AS succeeded FROM
        (SELECT COALESCE(SUM(amount), 0) AS total FROM {payment}.ledger_entries
            WHERE account = 'revenue') ledger,
        (SELECT COALESCE(SUM(amount), 0) AS total FROM {payment}.payments
            WHERE state = 'succeeded') payments
        WHERE ledger.total <> payments.total
    """


class OneDebitOneRefund(QueryRule):
    """A payment was charged or refunded more than once, or for another amount than its own."""

    invariant: ClassVar[int] = 2
    sql: ClassVar[str] = """
        SELECT p.payment_id, p.state, p.amount,
            COALESCE(SUM(l.kind = 'payment'), 0) AS debits,
            COALESCE(SUM(l.kind = 'refund'), 0) AS refunds,
            COALESCE(SUM(l.amount), 0) AS net
        FROM {payment}.payments p
        LEFT JOIN {payment}.ledger_entries l
            ON l.payment_id = p.payment_id AND l.account = CONCAT('wallet:', p.user_id)
        GROUP BY p.payment_id, p.state, p.amount
        HAVING NOT (
            (p.state = 'failed' AND COUNT(l.payment_id) = 0)
            OR (p.state IN ('authorized', 'succeeded') AND debits = 1 AND refunds = 0
                AND net = -p.amount)
            OR (p.state = 'refunded' AND debits = 1 AND refunds = 1 AND net = 0)
        )
    """


class EveryDebitEnds(QueryRule):
    """A fan's money hangs between debit and outcome: a saga is stuck."""

    invariant: ClassVar[int] = 2
    sql: ClassVar[str] = """
        SELECT payment_id, reservation_id, created_at FROM {payment}.payments
        WHERE state = 'authorized' AND created_at < {settled}
    """
