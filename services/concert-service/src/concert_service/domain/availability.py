"""Which seats cannot be had: one bit a seat in plan order, a version, and how to say it.

The bit of position 0 is the highest bit of the first byte, as Redis' SETBIT counts them.
"""

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress

HISTORY_LIMIT = 512
"""Changes kept for ``since``; whoever is further behind gets the whole."""

_ZERO_ONE = bytes.maketrans(b"01", b"\x00\x01")


def bitmap_length(seats_total: int) -> int:
    """Bytes that hold one bit a seat."""
    return (seats_total + 7) // 8


def bitmap_of(positions: Iterable[int], seats_total: int) -> bytes:
    """The bitmap with the bits of these positions set."""
    bits = bytearray(bitmap_length(seats_total))
    for position in positions:
        bits[position >> 3] |= 0x80 >> (position & 7)
    return bytes(bits)


def bitmap_of_words(words: Iterable[tuple[int, int]], seats_total: int) -> bytes:
    """The bitmap from 64-bit words as SQL packs them: (position DIV 64, its bits)."""
    bits = bytearray(bitmap_length(seats_total) + 8)
    for index, word in words:
        bits[index * 8 : index * 8 + 8] = word.to_bytes(8, "big")
    return bytes(bits[: bitmap_length(seats_total)])


def is_set(bitmap: bytes, position: int) -> bool:
    """Whether the seat at this position cannot be had."""
    return bool(bitmap[position >> 3] & (0x80 >> (position & 7)))


@dataclass(frozen=True, slots=True)
class SeatIndex:
    """What never changes about a performance's seats, made ready for answering."""

    performance_id: str
    seats_total: int
    quoted_ids: tuple[bytes, ...]
    """Every seat id in plan order, as a JSON string."""
    categories: tuple[tuple[str, int], ...]
    """Name and bit mask of each category, in order of first appearance."""

    @classmethod
    def build(cls, performance_id: str, seats: Sequence[tuple[str, str]]) -> "SeatIndex":
        """From (seat id, category) in plan order."""
        places: dict[str, list[int]] = {}
        for position, (_, category) in enumerate(seats):
            places.setdefault(category, []).append(position)
        total = len(seats)
        return cls(
            performance_id=performance_id,
            seats_total=total,
            quoted_ids=tuple(b'"%s"' % seat_id.encode("ascii") for seat_id, _ in seats),
            categories=tuple(
                (name, int.from_bytes(bitmap_of(positions, total), "big"))
                for name, positions in places.items()
            ),
        )

    def ids_of(self, bitmap: bytes) -> bytes:
        """The quoted ids of the set bits, joined by commas."""
        length = len(bitmap) * 8
        flags = f"{int.from_bytes(bitmap, 'big'):0{length}b}".encode().translate(_ZERO_ONE)
        return b",".join(compress(self.quoted_ids, flags))


@dataclass(frozen=True, slots=True)
class Change:
    """The positions that changed between two versions; their state is the bitmap's."""

    base: int
    version: int
    positions: tuple[int, ...]


@dataclass(slots=True)
class Availability:
    """The availability of one performance at one version, with ready-made answers.

    Bodies are rendered at most once a version and reader's question; only ``as_of`` is new in each.
    """

    index: SeatIndex
    version: int
    bitmap: bytes
    history: deque[Change]
    """Unbroken: each change's base is the version before; the last one ends at ``version``."""
    _whole: bytes | None = field(default=None, init=False)
    _since: dict[int, bytes] = field(default_factory=dict, init=False)

    def body(self, as_of: str, since: int | None = None) -> bytes:
        """The answer as JSON: what cannot be had, or what changed since a version.

        The whole is given when ``since`` is not asked for, older than the history, or unknown here
        (a reader ahead of us must not patch its state with ours).
        """
        tail = self._since_tail(since) if since is not None else None
        return b'{"performance_id":"%s","version":%d,"as_of":"%s",%s' % (
            self.index.performance_id.encode("ascii"),
            self.version,
            as_of.encode("ascii"),
            tail if tail is not None else self._whole_tail(),
        )

    @property
    def seats_left(self) -> int:
        """Seats that can be had."""
        return self.index.seats_total - int.from_bytes(self.bitmap, "big").bit_count()

    def _whole_tail(self) -> bytes:
        if self._whole is None:
            ids = self.index.ids_of(self.bitmap)
            self._whole = b'%s,"unavailable":[%s]}' % (self._counts(), ids)
        return self._whole

    def _since_tail(self, since: int) -> bytes | None:
        if since in self._since:
            return self._since[since]
        if not self._reaches_back_to(since):
            return None
        positions = {
            position
            for change in self.history
            if change.version > since
            for position in change.positions
        }
        ids = self.index.quoted_ids
        taken = b",".join(ids[p] for p in sorted(positions) if is_set(self.bitmap, p))
        freed = b",".join(ids[p] for p in sorted(positions) if not is_set(self.bitmap, p))
        tail = b'"since":%d,%s,"unavailable":[%s],"available":[%s]}' % (
            since,
            self._counts(),
            taken,
            freed,
        )
        if len(self._since) < HISTORY_LIMIT:  # a caller may invent any number of versions
            self._since[since] = tail
        return tail

    def _reaches_back_to(self, since: int) -> bool:
        if since == self.version:
            return True
        return any(change.base <= since < change.version for change in self.history)

    def _counts(self) -> bytes:
        taken = int.from_bytes(self.bitmap, "big")
        categories = [
            {"category": name, "seats_left": mask.bit_count() - (mask & taken).bit_count()}
            for name, mask in self.index.categories
        ]
        return b'"seats_left":%d,"categories":%s' % (
            self.seats_left,
            json.dumps(categories, ensure_ascii=False, separators=(",", ":")).encode(),
        )


def unbroken(changes: Iterable[Change], version: int) -> deque[Change]:
    """The longest unbroken run of changes that ends at ``version``, at most the limit."""
    run: deque[Change] = deque()
    expected = version
    for change in sorted(changes, key=lambda one: one.version, reverse=True):
        if change.version != expected or len(run) == HISTORY_LIMIT:
            if change.version > expected:
                continue  # of a version we do not hold (yet)
            break
        run.appendleft(change)
        expected = change.base
    return run


def encode_change(change: Change) -> str:
    """As it is kept in Redis: ``version:base:positions``."""
    return f"{change.version}:{change.base}:{','.join(map(str, change.positions))}"


def decode_changes(encoded: Iterable[bytes | str]) -> Iterator[Change]:
    """What `encode_change` wrote."""
    for one in encoded:
        version, base, positions = (one.decode() if isinstance(one, bytes) else one).split(":")
        yield Change(
            int(base),
            int(version),
            tuple(int(p) for p in positions.split(",")) if positions else (),
        )
