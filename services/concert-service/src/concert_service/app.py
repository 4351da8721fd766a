"""The composition root."""

from fastapi import FastAPI

from common.cli import run
from common.platform import Platform, Role
from concert_service.api import admin, router
from concert_service.consumers import subscriptions
from concert_service.jobs import jobs
from concert_service.service.availability import AvailabilityReader
from concert_service.service.catalogue import Catalogue
from concert_service.service.creation import Creation
from concert_service.service.documents import Documents
from concert_service.service.loading import OneLoader
from concert_service.service.projecting import Projector
from concert_service.service.sales import Sales
from concert_service.settings import ConcertSettings
from concert_service.store.cache import Cache

MIGRATIONS = "concert_service.migrations"
_DESCRIPTION = "Catalogue, seating plans, sale control and availability."


def create_app(settings: ConcertSettings, role: Role = "all") -> FastAPI:
    """One process of concert-service; nothing is connected before its lifespan begins."""
    platform = Platform(settings, role, migrations=MIGRATIONS)
    database, clock = platform.database, platform.clock
    cache = Cache(platform.redis, settings.redis_prefix)
    loader = OneLoader(platform.redis, clock)
    documents = Documents(database, cache, loader, clock)
    sales = Sales(database, platform.outbox, documents, clock)
    creation = Creation(database, platform.outbox, documents, clock)
    projector = Projector(database, cache, clock)
    platform.add_subscriptions(subscriptions(projector))
    for job in jobs(sales, projector, creation):
        platform.add_job(job)
    return platform.web_app(
        title="Stagedoor concert-service",
        description=_DESCRIPTION,
        routers=[router, admin],
        state={
            "catalogue": Catalogue(database, documents),
            "availability": AvailabilityReader(database, cache, loader, clock),
            "sales": sales,
            "creation": creation,
            "clock": clock,
        },
    )


def main() -> None:
    """The command ``concert-service``."""
    run("concert", ConcertSettings, create_app, MIGRATIONS)
