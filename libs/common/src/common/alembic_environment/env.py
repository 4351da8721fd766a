"""Alembic's environment for every service: runs the revisions on the connection it is handed."""  # noqa: INP001 - Alembic wants a folder of scripts, no package

from alembic import context

context.configure(
    connection=context.config.attributes["connection"], transaction_per_migration=True
)
with context.begin_transaction():
    context.run_migrations()
