"""Noticing that this process stood still: frozen by a signal, a hypervisor or a blocked loop."""

import asyncio
from time import monotonic

STALL_SECONDS = 2.0
_TICK_SECONDS = 0.25


class Stalls:
    """Counts how often the process stood still for longer than `STALL_SECONDS`."""

    def __init__(self) -> None:
        self._last = monotonic()
        self._count = 0

    def count(self) -> int:
        """Stalls so far, one that has just ended included."""
        now = monotonic()
        if now - self._last > STALL_SECONDS:
            self._count += 1
        self._last = now
        return self._count

    async def run(self) -> None:
        """Look at the clock regularly, until cancelled."""
        while True:
            self.count()
            await asyncio.sleep(_TICK_SECONDS)
