"""Parts of a plan that have arrived, each once."""

from alembic import op

revision = "0005"
down_revision = "0004"

TABLE = """
CREATE TABLE performance_parts (
    performance_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    part INT NOT NULL,
    received_at DATETIME(6) NOT NULL,
    PRIMARY KEY (performance_id, part)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
"""


def upgrade() -> None:
    op.execute(TABLE)
