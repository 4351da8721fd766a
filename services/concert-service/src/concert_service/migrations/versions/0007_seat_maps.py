"""Seat maps: immutable answers, as they are sent."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE seat_maps (
            performance_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            etag CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            body LONGBLOB NOT NULL,
            PRIMARY KEY (performance_id)
        ) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
        """
    )
