"""What Alembic runs for `migrate`: the caller's connection and the caller's transaction, nothing else.

Invariant: no connection is opened, no logging is configured and no file is read here, so a migration is exactly as
atomic as the transaction it is handed. Alembic's usual environment with an ini file was turned down for that.
"""

from alembic import context

from gateway.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
