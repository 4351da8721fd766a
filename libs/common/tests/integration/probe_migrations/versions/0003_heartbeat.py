"""The heartbeat."""

from alembic import op

from common.schema import HEARTBEAT_V1

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute(HEARTBEAT_V1)
