"""What this process used recently, bounded by weight."""

from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """A mapping that forgets the least recently used when it grows too heavy."""

    def __init__(self, max_weight: int) -> None:
        self._max_weight = max_weight
        self._weight = 0
        self._entries: OrderedDict[str, tuple[int, T]] = OrderedDict()

    def get(self, name: str) -> T | None:
        """The entry, which is thereby the most recently used."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        self._entries.move_to_end(name)
        return entry[1]

    def put(self, name: str, value: T, weight: int) -> None:
        """Keep it; what weighs more than everything may is kept until the next one comes."""
        self.drop(name)
        self._entries[name] = (weight, value)
        self._weight += weight
        while self._weight > self._max_weight and len(self._entries) > 1:
            self.drop(next(iter(self._entries)))

    def drop(self, name: str) -> None:
        """Forget it, if it is there."""
        entry = self._entries.pop(name, None)
        if entry is not None:
            self._weight -= entry[0]
