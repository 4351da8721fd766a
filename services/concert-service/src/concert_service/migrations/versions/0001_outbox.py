"""What is to be published."""

from alembic import op

from common.schema import OUTBOX_V1

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(OUTBOX_V1)
