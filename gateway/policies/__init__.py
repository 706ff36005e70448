"""The checks a request passes before it is forwarded, one file each, in the order of `pipeline.py`."""
