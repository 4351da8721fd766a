"""Who changed which policy when, and what it was before."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute("""
CREATE TABLE policy_changes (
    id BIGINT NOT NULL AUTO_INCREMENT,
    concert_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    version BIGINT NOT NULL,
    changed_at DATETIME(6) NOT NULL,
    changed_by VARCHAR(128) NOT NULL,
    mode VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    max_active INT NOT NULL,
    admit_per_minute INT NOT NULL,
    old_policy LONGTEXT NULL,
    new_policy LONGTEXT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE KEY policy_changes_version (concert_id, version)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    """)
