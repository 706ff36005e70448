"""One file per revision, numbered; each is also listed in `gateway.store.migrate.REVISIONS`."""
