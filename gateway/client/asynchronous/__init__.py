"""The client that awaits, written by hand. `synchronous` is made from it by `python -m gateway.client.generate`."""
