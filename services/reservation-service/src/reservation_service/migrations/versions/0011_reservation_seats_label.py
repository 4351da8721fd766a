"""Labels as long as a seating plan can make them."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.execute("ALTER TABLE reservation_seats MODIFY label VARCHAR(500) NOT NULL")
