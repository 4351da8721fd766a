"""The inbox of common."""

from alembic import op

from common.schema import INBOX_V1

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(INBOX_V1)
