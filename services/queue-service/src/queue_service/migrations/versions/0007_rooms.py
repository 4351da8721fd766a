"""What of each room must survive Redis: epoch, numbers handed out, the draw."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute("""
CREATE TABLE rooms (
    concert_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    epoch INT NOT NULL,
    numbers_to BIGINT NOT NULL,
    seed CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    opened_at DATETIME(6) NULL,
    drawn_base BIGINT NULL,
    drawn_count BIGINT NULL,
    PRIMARY KEY (concert_id)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    """)
