"""The ledger: two rows a transfer that sum to zero; rows are only ever inserted."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE ledger_entries (
            entry_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            transfer_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            account VARCHAR(160) NOT NULL,
            amount BIGINT NOT NULL,
            kind VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            payment_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL,
            created_at DATETIME(6) NOT NULL,
            PRIMARY KEY (entry_id),
            UNIQUE KEY ledger_entries_transfer (transfer_id, account),
            UNIQUE KEY ledger_entries_step (payment_id, kind, account),
            KEY ledger_entries_history (account, created_at, entry_id),
            CONSTRAINT ledger_entries_kind CHECK (
                kind IN ('charge', 'payment', 'settlement', 'refund')
            ),
            CONSTRAINT ledger_entries_payment CHECK ((kind = 'charge') = (payment_id IS NULL))
        ) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
        """
    )
