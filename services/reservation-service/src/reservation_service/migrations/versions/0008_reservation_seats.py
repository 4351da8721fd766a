"""Which seats a reservation got, as they were then. Never changed."""

from alembic import op

revision = "0008"
down_revision = "0007"

TABLE = """
CREATE TABLE reservation_seats (
    reservation_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    seat_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    position INT NOT NULL,
    label VARCHAR(255) NOT NULL,
    price BIGINT NOT NULL,
    PRIMARY KEY (reservation_id, seat_id),
    KEY reservation_seats_seat (seat_id),
    CONSTRAINT reservation_seats_price CHECK (price >= 0)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
"""


def upgrade() -> None:
    op.execute(TABLE)
