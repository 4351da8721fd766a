"""What concert-service is told from outside."""

from typing import ClassVar

from common.settings import CommonSettings


class ConcertSettings(CommonSettings):
    """The common settings are all it needs."""

    service_name: ClassVar[str] = "concert"
