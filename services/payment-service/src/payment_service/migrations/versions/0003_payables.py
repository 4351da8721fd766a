"""Payables: what may be paid, as reservation-service last said."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE payables (
            reservation_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            version BIGINT NOT NULL,
            user_id VARCHAR(128) NOT NULL,
            concert_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            performance_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            seat_ids LONGTEXT NOT NULL,
            state VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            amount BIGINT NULL,
            hold_expires_at DATETIME(6) NULL,
            PRIMARY KEY (reservation_id),
            CONSTRAINT payables_state CHECK (state IN ('held', 'expired', 'cancelled')),
            CONSTRAINT payables_amount CHECK (amount >= 0),
            CONSTRAINT payables_held CHECK (
                state <> 'held' OR (amount IS NOT NULL AND hold_expires_at IS NOT NULL)
            )
        ) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
        """
    )
