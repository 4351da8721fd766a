"""What reservation-service is told from outside."""

from typing import Annotated, ClassVar

from pydantic import Field

from common.settings import CommonSettings


class ReservationSettings(CommonSettings):
    """Settings of reservation-service."""

    service_name: ClassVar[str] = "reservation"

    lane_batch: Annotated[int, Field(ge=1, le=200)] = 100
    """Most requests decided in one transaction; the same in every replica."""
    expiry_interval_seconds: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Pause between two looks for holds that have ended: they are released within 1 s."""
