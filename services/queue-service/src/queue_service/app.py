"""The composition root: the only place that builds what queue-service consists of."""

from fastapi import FastAPI

from common.cli import run
from common.platform import Platform, Role
from common.security import PassSigner
from queue_service.api import routers
from queue_service.consumers import subscriptions
from queue_service.jobs import jobs
from queue_service.service import Door, Line, Recovery, Steering
from queue_service.settings import QueueSettings
from queue_service.store import AdmissionStore, PolicyStore, RoomStore, read_sources
from queue_service.tickets import Tickets

MIGRATIONS = "queue_service.migrations"


def create_app(settings: QueueSettings, role: Role = "all") -> FastAPI:
    """One process of queue-service; nothing is connected before its lifespan."""
    platform = Platform(settings, role, migrations=MIGRATIONS)
    database, outbox = platform.database, platform.outbox
    rooms = RoomStore(platform.redis, settings.redis_prefix, read_sources())
    admissions, policies = AdmissionStore(), PolicyStore()
    recovery = Recovery(
        database=database,
        rooms=rooms,
        admissions=admissions,
        policies=policies,
        lease=platform.lease,
        numbers_reserved=settings.numbers_reserved,
        hold_seconds=settings.recovery_hold_seconds,
    )
    door = Door(
        database=database,
        outbox=outbox,
        rooms=rooms,
        admissions=admissions,
        recovery=recovery,
        lease_seconds=settings.lease_seconds,
        numbers_reserved=settings.numbers_reserved,
    )
    steering = Steering(
        database=database, rooms=rooms, policies=policies, recovery=recovery, door=door
    )
    line = Line(
        rooms=rooms,
        recovery=recovery,
        door=door,
        tickets=_tickets(settings),
        signer=_signer(settings),
        passes=platform.passes,
        lease_seconds=settings.lease_seconds,
    )
    platform.add_subscriptions(subscriptions(door, steering))
    for job in jobs(
        door,
        steering,
        turn_seconds=settings.turn_seconds,
        steer_seconds=settings.steer_seconds,
    ):
        platform.add_job(job)
    return platform.web_app(
        title="Stagedoor: the waiting room",
        description="A fair place in line, an honest wait, and the pass to get in.",
        routers=routers,
        state={"line": line, "steering": steering, "door": door},
    )


def _tickets(settings: QueueSettings) -> Tickets:
    lines = settings.ticket_key_file.read_text().split()
    return Tickets([bytes.fromhex(line) for line in lines])


def _signer(settings: QueueSettings) -> PassSigner:
    file = settings.pass_signing_key_file
    return PassSigner(file.read_text(), file.stem)


def main() -> int:
    """The command line: serve, migrate, parked."""
    return run("queue", QueueSettings, create_app, MIGRATIONS)
