"""Passes that may reserve no more: the admission ended, or the pass is spent."""

from alembic import op

revision = "0009"
down_revision = "0008"

TABLE = """
CREATE TABLE ended_passes (
    pass_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    user_id VARCHAR(128) NOT NULL,
    concert_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    cause VARCHAR(16) NOT NULL,
    ended_at DATETIME(6) NOT NULL,
    PRIMARY KEY (pass_id),
    KEY ended_passes_ended_at (ended_at)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
"""


def upgrade() -> None:
    op.execute(TABLE)
