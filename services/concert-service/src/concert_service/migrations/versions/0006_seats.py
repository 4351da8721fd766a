"""Seats: written before their performance exists, so no foreign key names it."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE seats (
            performance_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            seat_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            position INT NOT NULL,
            seat_guid VARCHAR(100) NOT NULL,
            label VARCHAR(500) NOT NULL,
            category VARCHAR(100) NOT NULL,
            price BIGINT NOT NULL,
            row_name VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            state VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            state_version BIGINT NOT NULL,
            PRIMARY KEY (performance_id, seat_id),
            UNIQUE KEY seats_position (performance_id, position),
            CONSTRAINT seats_price CHECK (price >= 0),
            CONSTRAINT seats_state CHECK (state IN ('available', 'held', 'sold')),
            CONSTRAINT seats_state_version CHECK (state_version >= 0)
        ) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
        """
    )
