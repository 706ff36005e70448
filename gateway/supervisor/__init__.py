"""The process that owns the listening sockets and starts, watches, replaces and drains all others."""
