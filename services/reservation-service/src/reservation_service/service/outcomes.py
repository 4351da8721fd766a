"""The outcome of a request on its way from the lane's worker to the process that waits."""

from dataclasses import dataclass

from reservation_service.representation import Answer, stored_answer


@dataclass(frozen=True, slots=True)
class Outcome:
    """A final answer, and whose row keeps it."""

    reservation_id: str
    body_hash: str
    status: int
    body: bytes

    def pack(self) -> bytes:
        """As it travels."""
        return f"{self.reservation_id} {self.body_hash} {self.status}\n".encode() + self.body

    @classmethod
    def unpack(cls, payload: bytes) -> "Outcome":
        """Read what `pack` wrote."""
        head, _, body = payload.partition(b"\n")
        reservation_id, body_hash, status = head.decode().split(" ")
        return cls(reservation_id, body_hash, int(status), body)

    def answer(self) -> Answer:
        """As the client gets it."""
        return stored_answer(self.status, self.body, self.reservation_id)
