"""Alembic's environment and the revisions, packaged so that a gateway can always migrate its own store."""
