"""`gateway demo`: see it work before deciding anything."""

import typer


def demo() -> None:
    """Start a demo API and the gateway before it, in a temporary directory, with a key to try."""
    from gateway.demo.demonstration import demonstrate

    raise typer.Exit(demonstrate(typer.echo))
