"""How old the replica is."""

from alembic import op

from common.schema import HEARTBEAT_V1

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(HEARTBEAT_V1)
