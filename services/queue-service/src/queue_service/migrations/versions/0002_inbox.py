"""The inbox."""

from alembic import op

from common.schema import INBOX_V1

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute(INBOX_V1)
