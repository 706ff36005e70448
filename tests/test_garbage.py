"""Settling: what lasts is looked at no more, and what becomes garbage later goes all the same."""

from __future__ import annotations

import json
import subprocess
import sys

_SCRIPT = """
import gc, json, weakref
from gateway.garbage import settle

class Thing:
    pass

def cycle():
    thing = Thing()
    thing.itself = thing
    return weakref.ref(thing)

before = cycle()
settle()
after = cycle()
left_by_settling, frozen = before() is not None, gc.get_freeze_count()
gc.collect()
print(json.dumps([left_by_settling, frozen > 1000, after() is not None]))
"""


def test_no_garbage_is_frozen_and_what_comes_later_is_collected() -> None:
    """In a process of its own, whose collector nobody else needs."""
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [False, True, False]
