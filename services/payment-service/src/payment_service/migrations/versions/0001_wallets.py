"""Wallets: the balance a payment is decided by."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE wallets (
            user_id VARCHAR(128) NOT NULL,
            balance BIGINT NOT NULL,
            version BIGINT NOT NULL,
            PRIMARY KEY (user_id),
            CONSTRAINT wallets_balance CHECK (balance >= 0)
        ) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
        """
    )
