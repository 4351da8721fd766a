"""Accounts: something to write to."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE account (
            id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            name VARCHAR(64) NOT NULL,
            balance BIGINT NOT NULL,
            changed_at DATETIME(6) NULL,
            PRIMARY KEY (id),
            UNIQUE KEY account_name (name),
            CONSTRAINT account_balance CHECK (balance >= 0)
        ) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
        """
    )
