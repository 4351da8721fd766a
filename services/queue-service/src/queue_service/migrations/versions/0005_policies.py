"""The policy in force for each queue; version counts everything that steers it."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute("""
CREATE TABLE policies (
    concert_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    version BIGINT NOT NULL,
    mode VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    opens_at DATETIME(6) NULL,
    shuffle_at_open BOOLEAN NOT NULL,
    max_active INT NOT NULL,
    admit_per_minute INT NOT NULL,
    pass_ttl_seconds INT NOT NULL,
    place_grace_seconds INT NOT NULL,
    changed_at DATETIME(6) NOT NULL,
    changed_by VARCHAR(128) NOT NULL,
    PRIMARY KEY (concert_id),
    CONSTRAINT policies_mode CHECK (mode IN ('open', 'paused', 'closed', 'passthrough')),
    CONSTRAINT policies_limits CHECK (max_active >= 0 AND admit_per_minute >= 1
        AND pass_ttl_seconds >= 1 AND place_grace_seconds >= 1)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    """)
