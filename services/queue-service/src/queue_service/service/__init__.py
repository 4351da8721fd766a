"""Use cases of the waiting room."""

from queue_service.service.door import Door
from queue_service.service.line import Line, Seen
from queue_service.service.recovery import Recovery
from queue_service.service.steering import Steering

__all__ = ["Door", "Line", "Recovery", "Seen", "Steering"]
