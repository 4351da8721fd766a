"""The idempotency record of wallet charges."""

from alembic import op

from common.schema import IDEMPOTENCY_V1

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(IDEMPOTENCY_V1)
