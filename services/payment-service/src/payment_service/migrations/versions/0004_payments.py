"""Payments: the saga's state, and the record of the request that made each."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE payments (
            payment_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            reservation_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            user_id VARCHAR(128) NOT NULL,
            concert_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            performance_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            seat_ids LONGTEXT NOT NULL,
            amount BIGINT NOT NULL,
            state VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            live_reservation_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL,
            version BIGINT NOT NULL,
            idempotency_key VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            body_hash CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            reply_to VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NULL,
            answer_status SMALLINT NULL,
            answer_body BLOB NULL,
            created_at DATETIME(6) NOT NULL,
            settled_at DATETIME(6) NULL,
            refunded_at DATETIME(6) NULL,
            PRIMARY KEY (payment_id),
            UNIQUE KEY payments_live (live_reservation_id),
            UNIQUE KEY payments_request (user_id, idempotency_key),
            KEY payments_history (user_id, created_at, payment_id),
            KEY payments_open (state, created_at),
            KEY payments_reservation (reservation_id),
            CONSTRAINT payments_amount CHECK (amount >= 0),
            CONSTRAINT payments_state CHECK (
                state IN ('authorized', 'succeeded', 'refunded', 'failed')
            ),
            CONSTRAINT payments_live_while_authorized_or_succeeded CHECK (
                (state IN ('authorized', 'succeeded')) = (live_reservation_id IS NOT NULL)
                AND (live_reservation_id IS NULL OR live_reservation_id = reservation_id)
            ),
            CONSTRAINT payments_settled CHECK (state <> 'succeeded' OR settled_at IS NOT NULL),
            CONSTRAINT payments_refunded CHECK ((state = 'refunded') = (refunded_at IS NOT NULL)),
            CONSTRAINT payments_answer CHECK ((answer_status IS NULL) = (answer_body IS NULL)),
            CONSTRAINT payments_answered CHECK (state = 'authorized' OR answer_status IS NOT NULL)
        ) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
        """
    )
