"""The idempotency."""

from alembic import op

from common.schema import IDEMPOTENCY_V1

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute(IDEMPOTENCY_V1)
