"""The proxies under comparison: one file each, with the configuration it runs on beside it."""
