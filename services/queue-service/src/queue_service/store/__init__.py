"""Where the queue is kept: the room in Redis, policy and admissions in MySQL."""

from queue_service.store.admissions import AdmissionStore, WrongEpoch
from queue_service.store.policies import PolicyChange, PolicyStore, Queue
from queue_service.store.room import (
    NumbersUsedUp,
    RoomFrame,
    RoomMissing,
    RoomRestarted,
    RoomStore,
    read_sources,
)

__all__ = [
    "AdmissionStore",
    "NumbersUsedUp",
    "PolicyChange",
    "PolicyStore",
    "Queue",
    "RoomFrame",
    "RoomMissing",
    "RoomRestarted",
    "RoomStore",
    "WrongEpoch",
    "read_sources",
]
