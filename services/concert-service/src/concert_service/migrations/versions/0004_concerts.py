"""Concerts: written once."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE concerts (
            concert_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            title VARCHAR(200) NOT NULL,
            artist VARCHAR(200) NOT NULL,
            venue VARCHAR(200) NOT NULL,
            currency CHAR(3) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            max_seats_per_fan INT NOT NULL,
            hold_seconds INT NOT NULL,
            categories MEDIUMTEXT NOT NULL,
            created_at DATETIME(6) NOT NULL,
            PRIMARY KEY (concert_id),
            CONSTRAINT concerts_currency CHECK (currency = 'KRW'),
            CONSTRAINT concerts_max_seats_per_fan CHECK (max_seats_per_fan >= 1),
            CONSTRAINT concerts_hold_seconds CHECK (hold_seconds BETWEEN 1 AND 3600)
        ) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
        """
    )
