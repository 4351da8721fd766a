"""Performances: their sale, and how far the projection of their seats is."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE performances (
            performance_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            concert_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            starts_at DATETIME(6) NOT NULL,
            sale VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            sale_opens_at DATETIME(6) NULL,
            version BIGINT NOT NULL,
            seats_total INT NOT NULL,
            seats_left INT NOT NULL,
            seats_held INT NOT NULL DEFAULT 0,
            seats_sold INT NOT NULL DEFAULT 0,
            availability_version BIGINT NOT NULL DEFAULT 0,
            inventory_version BIGINT NOT NULL DEFAULT 0,
            PRIMARY KEY (performance_id),
            KEY performances_concert (concert_id, starts_at, performance_id),
            KEY performances_due (sale, sale_opens_at),
            CONSTRAINT performances_concert_exists
                FOREIGN KEY (concert_id) REFERENCES concerts (concert_id),
            CONSTRAINT performances_sale
                CHECK (sale IN ('scheduled', 'open', 'paused', 'closed', 'cancelled')),
            CONSTRAINT performances_version CHECK (version >= 1),
            CONSTRAINT performances_seats CHECK (
                seats_total >= 1 AND seats_left >= 0 AND seats_held >= 0 AND seats_sold >= 0
                AND seats_left + seats_held + seats_sold = seats_total
            ),
            CONSTRAINT performances_availability_version
                CHECK (inventory_version >= 0 AND availability_version >= inventory_version)
        ) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
        """
    )
