"""One file per revision, numbered; each is also listed in `gateway.store.revision.REVISIONS`."""
