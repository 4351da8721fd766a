"""Everybody ever let in. `live` makes a second live admission of a person impossible."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.execute("""
CREATE TABLE admissions (
    pass_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    concert_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    user_id VARCHAR(128) NOT NULL,
    number BIGINT NOT NULL,
    epoch INT NOT NULL,
    sequence BIGINT NOT NULL,
    mode VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    queued_at DATETIME(6) NOT NULL,
    admitted_at DATETIME(6) NOT NULL,
    delivered_at DATETIME(6) NULL,
    expires_at DATETIME(6) NULL,
    ended_at DATETIME(6) NULL,
    end_cause VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NULL,
    live TINYINT GENERATED ALWAYS AS (CASE WHEN ended_at IS NULL THEN 1 END) STORED,
    PRIMARY KEY (pass_id),
    UNIQUE KEY admissions_live_user (concert_id, user_id, live),
    UNIQUE KEY admissions_sequence (concert_id, sequence),
    KEY admissions_live (concert_id, live, pass_id),
    KEY admissions_admitted (concert_id, admitted_at),
    KEY admissions_ended (ended_at),
    CONSTRAINT admissions_mode CHECK (mode IN ('open', 'passthrough')),
    CONSTRAINT admissions_delivery
        CHECK ((delivered_at IS NULL) = (expires_at IS NULL)),
    CONSTRAINT admissions_end CHECK ((ended_at IS NULL) = (end_cause IS NULL)),
    CONSTRAINT admissions_end_cause CHECK (
        end_cause IN ('purchased', 'left', 'expired', 'uncollected', 'closed'))
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    """)
