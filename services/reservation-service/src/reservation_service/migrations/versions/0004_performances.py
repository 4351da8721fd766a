"""Performances: the row every change of their seats locks first."""

from alembic import op

revision = "0004"
down_revision = "0003"

TABLE = """
CREATE TABLE performances (
    performance_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    concert_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    sale VARCHAR(16) NOT NULL,
    sale_version INT NOT NULL,
    starts_at DATETIME(6) NULL,
    sale_opens_at DATETIME(6) NULL,
    currency CHAR(3) NOT NULL,
    max_seats_per_fan INT NOT NULL,
    hold_seconds INT NOT NULL,
    parts INT NOT NULL,
    parts_received INT NOT NULL,
    seats_total INT NOT NULL,
    seats_left INT NOT NULL,
    inventory_version BIGINT NOT NULL,
    lane_position BIGINT NOT NULL,
    cancelling TINYINT NOT NULL,
    created_at DATETIME(6) NOT NULL,
    PRIMARY KEY (performance_id),
    KEY performances_cancelling (cancelling),
    CONSTRAINT performances_sale CHECK
        (sale IN ('scheduled', 'open', 'paused', 'closed', 'cancelled')),
    CONSTRAINT performances_seats_left CHECK (seats_left BETWEEN 0 AND seats_total),
    CONSTRAINT performances_parts CHECK (parts_received BETWEEN 0 AND parts)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
"""


def upgrade() -> None:
    op.execute(TABLE)
