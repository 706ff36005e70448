"""Answers of the admin API, to be changed by tests."""

from typing import Any

KEY_DOCUMENT: dict[str, Any] = {
    "id": "key_06f3k2v9g8000q7zt5m1hdxw3c",
    "organization_id": "org_06f3k2v9g8000q7zt5m1hdxw3c",
    "name": "CI",
    "description": "",
    "prefix": "sk_",
    "tail": "aB3dE9",
    "status": "active",
    "expires_soon": False,
    "permissions": None,
    "allowed_origins": None,
    "owner": {"id": "mem_06f3k2v9g8000q7zt5m1hdxw3c", "kind": "member", "name": "ada@example.com"},
    "created_at": "2030-01-01T00:00:00Z",
    "created_by": {"id": None, "text": "System"},
    "expires_at": None,
    "disabled_at": None,
    "disabled_by": None,
    "revoked_at": None,
    "revoked_by": None,
    "revoked_reason": None,
    "last_used": None,
    "secret_last_used": None,
    "previous_secret": None,
    "imported": False,
    "version": 1,
}
PROPAGATION: dict[str, Any] = {"seq": 7, "applied": 2, "of": 2, "milliseconds": 4, "silent": []}
CHANGED_KEY: dict[str, Any] = {**KEY_DOCUMENT, "propagation": PROPAGATION}
