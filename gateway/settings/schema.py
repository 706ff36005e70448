"""The text of `config/gateway.schema.json`, by which editors complete and check a settings file.

Invariant: it accepts every file that the gateway accepts; that two settings agree is more than a JSON Schema can say.
Turned down: a schema written by hand, with better patterns and no relation to the model.
"""

from __future__ import annotations

import json

from gateway.settings.model import Settings


def schema() -> str:
    """Return the JSON Schema of the settings file."""
    content = Settings.model_json_schema()
    content |= {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Gateway settings"}
    return json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
