"""The composition root: the only place that builds the service's parts."""

import sys

from fastapi import FastAPI

from common.cli import run
from common.platform import Platform, Role
from reservation_service.api import admin_router, router
from reservation_service.consumers import subscriptions
from reservation_service.jobs import EXPIRY_LEASE, ExpirySweeper, jobs
from reservation_service.service.endings import Endings
from reservation_service.service.inventory import Inventory
from reservation_service.service.lanes import LaneWorker
from reservation_service.service.looking import Looking
from reservation_service.service.reserving import Reserving
from reservation_service.service.sales import Sales
from reservation_service.settings import ReservationSettings
from reservation_service.store.claims import Claims

MIGRATIONS = "reservation_service.migrations"


def create_app(settings: ReservationSettings, role: Role = "all") -> FastAPI:
    """One process of reservation-service; nothing is connected before its lifespan begins."""
    platform = Platform(settings, role, migrations=MIGRATIONS)
    database, outbox = platform.database, platform.outbox
    claims = Claims(platform.redis, settings.redis_prefix)
    endings = Endings(database=database, outbox=outbox, claims=claims)
    lanes = LaneWorker(database=database, outbox=outbox, claims=claims, answers=platform.answers)
    platform.add_subscriptions(
        subscriptions(
            lanes=lanes,
            endings=endings,
            inventory=Inventory(database=database),
            lane_batch=settings.lane_batch,
        )
    )
    for job in jobs(
        endings=endings,
        database=database,
        sweeper=ExpirySweeper(endings, platform.lease(*EXPIRY_LEASE)),
        expiry_interval_seconds=settings.expiry_interval_seconds,
    ):
        platform.add_job(job)
    reserving = Reserving(
        database=database,
        broker=platform.broker,
        claims=claims,
        answers=platform.answers,
        sales=Sales(database, platform.clock),
        clock=platform.clock,
    )
    return platform.web_app(
        title="Reservation service",
        description="Holds seats for fans with a pass; a seat is never sold twice.",
        routers=[router, admin_router],
        state={
            "reserving": reserving,
            "endings": endings,
            "looking": Looking(database=database, claims=claims, clock=platform.clock),
        },
    )


def main() -> None:
    """``reservation-service serve | migrate | parked``."""
    sys.exit(run("reservation", ReservationSettings, create_app, MIGRATIONS))
