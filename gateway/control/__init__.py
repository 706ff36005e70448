"""The control plane: an aiohttp application of its own process, never reachable through the proxy port."""
