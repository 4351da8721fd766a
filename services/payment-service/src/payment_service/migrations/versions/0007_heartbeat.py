"""The heartbeat of common."""

from alembic import op

from common.schema import HEARTBEAT_V1

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(HEARTBEAT_V1)
