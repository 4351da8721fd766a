"""Messages that had their effect."""

from alembic import op

from common.schema import INBOX_V1

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(INBOX_V1)
