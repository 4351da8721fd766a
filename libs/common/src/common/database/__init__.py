"""The database: `Database` with its sessions and transactions, and the errors they raise."""

from common.database.engine import Database
from common.database.errors import CheckViolation, RetryTransaction
from common.database.session import Session, Transaction

__all__ = ["CheckViolation", "Database", "RetryTransaction", "Session", "Transaction"]
