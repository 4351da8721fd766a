"""The outbox."""

from alembic import op

from common.schema import OUTBOX_V1

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute(OUTBOX_V1)
