"""The composition root: the only place that builds what payment-service consists of."""

from fastapi import FastAPI

from common.cli import run
from common.platform import Platform, Role
from payment_service.api import routers
from payment_service.consumers import subscriptions
from payment_service.jobs import jobs
from payment_service.service.payments import Payments
from payment_service.service.saga import Saga
from payment_service.service.wallets import Wallets
from payment_service.service.watch import Watch
from payment_service.settings import PaymentSettings

MIGRATIONS = "payment_service.migrations"


def create_app(settings: PaymentSettings, role: Role = "all") -> FastAPI:
    """One process of payment-service; nothing is connected before its lifespan."""
    platform = Platform(settings, role, migrations=MIGRATIONS)
    database, answers, outbox = platform.database, platform.answers, platform.outbox
    wallets = Wallets(database, platform.redis, settings.redis_prefix)
    payments = Payments(
        settings,
        database=database,
        redis=platform.redis,
        answers=answers,
        outbox=outbox,
        clock=platform.clock,
    )
    watch = Watch(database, overdue_seconds=settings.saga_overdue_seconds)
    saga = Saga(database=database, answers=answers, outbox=outbox)
    platform.add_subscriptions(subscriptions(saga))
    for job in jobs(settings, watch, database):
        platform.add_job(job)
    return platform.web_app(
        title="Stagedoor: payments",
        description="The wallet, its ledger, and payments of reservations.",
        routers=routers,
        state={"wallets": wallets, "payments": payments, "watch": watch},
    )


def main() -> int:
    """The command line: serve, migrate, parked."""
    return run("payment", PaymentSettings, create_app, MIGRATIONS)
