"""Decided requests; the row is also the record of its idempotency key."""

from alembic import op

revision = "0007"
down_revision = "0006"

TABLE = """
CREATE TABLE reservations (
    reservation_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    user_id VARCHAR(128) NOT NULL,
    concert_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    performance_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    pass_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    state VARCHAR(16) NOT NULL,
    total BIGINT NOT NULL,
    currency CHAR(3) NOT NULL,
    hold_expires_at DATETIME(6) NULL,
    payment_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL,
    cancel_cause VARCHAR(32) NULL,
    rejected_code VARCHAR(32) NULL,
    version INT NOT NULL,
    lane_position BIGINT NULL,
    requested_at DATETIME(6) NOT NULL,
    created_at DATETIME(6) NOT NULL,
    changed_at DATETIME(6) NOT NULL,
    idempotency_key VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    body_hash CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    answer_status SMALLINT NOT NULL,
    answer_body MEDIUMTEXT NOT NULL,
    PRIMARY KEY (reservation_id),
    UNIQUE KEY reservations_idempotency (user_id, idempotency_key),
    UNIQUE KEY reservations_payment (payment_id),
    UNIQUE KEY reservations_lane_position (performance_id, lane_position),
    KEY reservations_user (user_id, reservation_id),
    KEY reservations_hold_end (state, hold_expires_at),
    KEY reservations_performance (performance_id, state, user_id),
    CONSTRAINT reservations_state CHECK
        (state IN ('held', 'confirmed', 'expired', 'cancelled', 'rejected', 'refunded')),
    CONSTRAINT reservations_total CHECK (total >= 0),
    CONSTRAINT reservations_hold CHECK ((state = 'rejected') = (hold_expires_at IS NULL)),
    CONSTRAINT reservations_paid CHECK
        (state NOT IN ('confirmed', 'refunded') OR payment_id IS NOT NULL)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
"""


def upgrade() -> None:
    op.execute(TABLE)
