"""The outbox of common."""

from alembic import op

from common.schema import OUTBOX_V1

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(OUTBOX_V1)
