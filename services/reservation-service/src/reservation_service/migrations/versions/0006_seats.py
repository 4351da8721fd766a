"""The inventory: one row a seat of a performance. The truth about who has it."""

from alembic import op

revision = "0006"
down_revision = "0005"

TABLE = """
CREATE TABLE seats (
    seat_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    performance_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    position INT NOT NULL,
    row_key VARCHAR(255) NOT NULL,
    label VARCHAR(255) NOT NULL,
    category VARCHAR(255) NOT NULL,
    price BIGINT NOT NULL,
    state VARCHAR(16) NOT NULL,
    reservation_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL,
    version INT NOT NULL,
    PRIMARY KEY (seat_id),
    UNIQUE KEY seats_position (performance_id, position),
    KEY seats_free (performance_id, state, category, position),
    KEY seats_reservation (reservation_id),
    CONSTRAINT seats_state CHECK (state IN ('available', 'held', 'sold')),
    CONSTRAINT seats_owner CHECK ((state = 'available') = (reservation_id IS NULL)),
    CONSTRAINT seats_price CHECK (price >= 0)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
"""


def upgrade() -> None:
    op.execute(TABLE)
