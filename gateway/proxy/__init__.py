"""Data plane: the worker process that lets keyed requests through and moves their bytes.

The files in the order of a request's way: `client_connection` → `request_head` → `exchange` → `routes` →
`gateway.policies` → `upstream_pool` → `upstream_connection` → `response_head` → back through `exchange`.
"""
