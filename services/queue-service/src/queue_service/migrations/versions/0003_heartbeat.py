"""The heartbeat, by which the replica's age is known."""

from alembic import op

from common.schema import HEARTBEAT_V1

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute(HEARTBEAT_V1)
