"""What is known of each performance, and its last stock."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("""
CREATE TABLE performances (
    performance_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    concert_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    version BIGINT NOT NULL,
    sale VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    sale_opens_at DATETIME(6) NULL,
    inventory_version BIGINT NOT NULL,
    seats_left INT NULL,
    PRIMARY KEY (performance_id),
    KEY performances_concert (concert_id),
    CONSTRAINT performances_sale
        CHECK (sale IN ('scheduled', 'open', 'paused', 'closed', 'cancelled')),
    CONSTRAINT performances_seats_left CHECK (seats_left >= 0)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    """)
