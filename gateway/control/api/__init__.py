"""The admin API: one table of operations, from which routes, OpenAPI and the page that shows it are made."""
