"""The domain: what a key is, means and may do. Pure, on the standard library alone: no I/O, no event loop."""
