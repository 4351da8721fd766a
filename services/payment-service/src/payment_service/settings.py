"""What payment-service is told from outside, beyond what every service is told."""

from typing import Annotated, ClassVar

from pydantic import Field

from common.settings import CommonSettings


class PaymentSettings(CommonSettings):
    """Settings of payment-service."""

    service_name: ClassVar[str] = "payment"

    payable_wait_seconds: Annotated[float, Field(ge=0, le=5)] = 1.0
    """How long a payment waits for the news of its very fresh reservation."""
    saga_overdue_seconds: Annotated[float, Field(gt=0)] = 5.0
    """An authorized payment older than this should have had its outcome."""
    saga_watch_every_seconds: Annotated[float, Field(gt=0)] = 2.0
