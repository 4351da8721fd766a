"""Labels as long as a seating plan can make them."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute("ALTER TABLE seats MODIFY label VARCHAR(500) NOT NULL")
