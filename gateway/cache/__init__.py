"""A worker's own memory of keys: what it may serve without asking the store, and for how long."""
