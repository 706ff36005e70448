"""The change feed: how a committed change of a key reaches the cache of a worker."""
