"""The client that waits, made from the one that awaits by `python -m gateway.client.generate`; do not edit."""
