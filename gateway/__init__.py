"""Keygate: a reverse proxy that lets a request through only with a valid API key.

Every `__init__.py` of the package holds a docstring and nothing else (this one adds the version): importing one part
never drags in another, so a proxy worker starts without SQLAlchemy, and the supervisor without aiohttp. Re-exporting a
"public API" here was turned down for that reason.
"""

__version__ = "0.1.0"
