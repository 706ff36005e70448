"""The store of truth: schema, migrations, engine, and the stdlib-only reader that proxy workers use."""
