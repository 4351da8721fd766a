"""The tables `common` itself needs in every service's schema.

The texts are frozen: migrations have run with them. A change is a new ``_V2`` text with an ALTER,
and a migration of its own in each service. Names: the engines agree on everything used here.
"""

_TABLE = "ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
_ASCII = "CHARACTER SET ascii COLLATE ascii_bin"

OUTBOX_V1 = f"""
CREATE TABLE outbox (
    id BIGINT NOT NULL AUTO_INCREMENT,
    destination VARCHAR(16) {_ASCII} NOT NULL,
    event_id CHAR(36) {_ASCII} NOT NULL,
    source VARCHAR(64) {_ASCII} NOT NULL,
    type VARCHAR(64) {_ASCII} NOT NULL,
    exchange VARCHAR(64) {_ASCII} NOT NULL,
    routing_key VARCHAR(128) {_ASCII} NOT NULL,
    subject VARCHAR(64) {_ASCII} NOT NULL,
    message_key VARCHAR(64) {_ASCII} NULL,
    traceparent VARCHAR(64) {_ASCII} NULL,
    occurred_at DATETIME(6) NOT NULL,
    payload LONGTEXT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE KEY outbox_event_id (event_id),
    KEY outbox_destination (destination, id)
) {_TABLE}
"""

INBOX_V1 = f"""
CREATE TABLE inbox (
    consumer VARCHAR(64) {_ASCII} NOT NULL,
    message_id CHAR(36) {_ASCII} NOT NULL,
    received_at DATETIME(6) NOT NULL,
    PRIMARY KEY (consumer, message_id),
    KEY inbox_received_at (received_at)
) {_TABLE}
"""

HEARTBEAT_V1 = f"""
CREATE TABLE heartbeat (
    id TINYINT NOT NULL,
    beat_at DATETIME(6) NOT NULL,
    PRIMARY KEY (id)
) {_TABLE}
"""

IDEMPOTENCY_V1 = f"""
CREATE TABLE idempotency (
    user_id VARCHAR(128) NOT NULL,
    path VARCHAR(64) {_ASCII} NOT NULL,
    idempotency_key VARCHAR(128) {_ASCII} NOT NULL,
    body_hash CHAR(64) {_ASCII} NOT NULL,
    status SMALLINT NOT NULL,
    headers LONGTEXT NOT NULL,
    body LONGTEXT NOT NULL,
    created_at DATETIME(6) NOT NULL,
    PRIMARY KEY (user_id, path, idempotency_key),
    KEY idempotency_created_at (created_at)
) {_TABLE}
"""
