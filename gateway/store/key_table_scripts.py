"""What is done to the shared key table in one piece, in the language of Redis (Lua 5.1).

Invariants that these scripts hold, whoever calls them, in whatever order, and however late:
- `head` rises by one within a build, and only in the call that writes what the change at that number has altered;
- a record or tombstone is written only by a snapshot of the store that is not older than `head`, nor than what is there
  of the same digest;
- what was read of one build (`build` is new with each rebuild) is never written into another one;
- `size` is the number of records and tombstones, so that a single one that is lost shows;
- a new build takes the place of the old one only while its builder holds the lock, and never with a lower head in the
  same epoch.

The hash `keys` has records by digest (32 bytes) beside the fields epoch, build, head, tip, size, complete and stamp.
A value begins with the number of its form, the `as_of` of its snapshot and a space: "1" "812" " " …; what comes after
that is not looked at here. Everything a script touches is named in KEYS, and is of one Cluster slot.

Turned down: MULTI with WATCH, which takes three round trips and starts over whenever anybody else writes; and Redis
functions, which need Redis 7 and a deployment of their own.
"""

from dataclasses import dataclass, field
from hashlib import sha1
from typing import Final

FIXED_FIELDS: Final = 7
COMPLETE: Final = "1"
"""The form of the whole table; a gateway that does not know it takes the table for incomplete."""


@dataclass(frozen=True, slots=True)
class Script:
    """`digest` is what Redis calls it by."""

    name: str
    source: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", sha1(self.source.encode(), usedforsecurity=False).hexdigest())


# What has more digits, or is no number at all, counts as not there: see key_table_words.
_NUMBER: Final = """
local function number(text)
  return text and #text <= 15 and string.match(text, '^%d+$') and tonumber(text)
end
"""

_NOW: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
"""

# "1812 payload" → 812; what has another form counts as older than anything.
_WRITE: Final = """
local function as_of(value)
  return value and tonumber(string.match(value, '^.(%d+) ')) or -1
end
local function write(key, first)
  local added = 0
  for i = first, #ARGV, 2 do
    local there = redis.call('HGET', key, ARGV[i])
    if as_of(ARGV[i + 1]) >= as_of(there) then
      added = added + redis.call('HSET', key, ARGV[i], ARGV[i + 1])
    end
  end
  return added
end
"""

FIND: Final = Script(
    "find",
    f"""{_NUMBER}
local v = redis.call('HMGET', KEYS[1], 'epoch', 'head', 'complete', 'size', ARGV[1])
local size = number(v[4])
local whole = v[3] == '{COMPLETE}' and size and redis.call('HLEN', KEYS[1]) == size + {FIXED_FIELDS}
return {{v[1], v[2], whole and 1 or 0, v[5]}}
""",
)

# ARGV: id, presence. The state is read before the sign of life is left.
PULSE: Final = Script(
    "pulse",
    f"""{_NOW}{_NUMBER}
local v = redis.call('HMGET', KEYS[1], 'epoch', 'head', 'complete', 'size', 'stamp')
local size = number(v[4])
local whole = v[3] == '{COMPLETE}' and size and redis.call('HLEN', KEYS[1]) == size + {FIXED_FIELDS}
redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f ', now) .. ARGV[2])
return {{v[1], v[2], whole and 1 or 0, v[5], string.format('%.0f', now)}}
""",
)

PRESENCES: Final = Script(
    "presences",
    f"""{_NOW}
return {{string.format('%.0f', now), redis.call('HGETALL', KEYS[1])}}
""",
)

STATE: Final = Script(
    "state",
    f"""{_NOW}
local v = redis.call('HMGET', KEYS[1], 'epoch', 'build', 'head', 'tip', 'complete', 'size')
return {{string.format('%.0f', now), redis.call('HLEN', KEYS[1]), v[1], v[2], v[3], v[4], v[5], v[6]}}
""",
)

# ARGV: epoch, build, as_of, then digests and values. Returns 1 where they have been written, as far as they are newer.
PUT: Final = Script(
    "put",
    f"""{_NUMBER}{_WRITE}
local v = redis.call('HMGET', KEYS[1], 'epoch', 'build', 'head')
local head = number(v[3])
if v[1] ~= ARGV[1] or v[2] ~= ARGV[2] or not head or tonumber(ARGV[3]) < head then
  return 0
end
redis.call('HINCRBY', KEYS[1], 'size', write(KEYS[1], 4))
return 1
""",
)

# ARGV: epoch, build, seq, tip, channel, message, then digests and values. Returns 1 where the head has moved.
ADVANCE: Final = Script(
    "advance",
    f"""{_NUMBER}{_WRITE}
local v = redis.call('HMGET', KEYS[1], 'epoch', 'build', 'head')
local head = number(v[3])
if v[1] ~= ARGV[1] or v[2] ~= ARGV[2] or not head or head + 1 ~= tonumber(ARGV[3]) then
  return 0
end
redis.call('HINCRBY', KEYS[1], 'size', write(KEYS[1], 7))
redis.call('HSET', KEYS[1], 'head', ARGV[3], 'tip', ARGV[4])
redis.call('PUBLISH', ARGV[5], ARGV[6])
return 1
""",
)

# ARGV: moment, epoch, head; or moment, '', '' where the store cannot be asked. A stamp of a moment to come is one of
# another server's clock, or of this one before it was set back; it would stand in the way of all others.
STAMP: Final = Script(
    "stamp",
    f"""{_NOW}
local v = redis.call('HMGET', KEYS[1], 'epoch', 'stamp')
if not v[1] then
  return 0
end
local there = v[2] and tonumber(string.match(v[2], '^%d+')) or 0
local limit = tonumber(ARGV[1])
if ARGV[3] == '' and not (v[2] and string.match(v[2], ' $')) then
  limit = limit - 2000000
end
if there >= limit and there <= now then
  return 0
end
local epoch = ARGV[3] == '' and v[1] or ARGV[2]
redis.call('HSET', KEYS[1], 'stamp', ARGV[1] .. ' ' .. epoch .. ' ' .. ARGV[3])
return 1
""",
)

# KEYS: lock. ARGV: token, milliseconds. Returns 1 where the lock is held now, 2 where something had to be deleted for
# it that would never have gone away by itself, 0 where another builder holds it.
BEGIN: Final = Script(
    "begin",
    """
local stuck = redis.call('PTTL', KEYS[1]) == -1
if stuck then
  redis.call('DEL', KEYS[1])
end
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return 0
end
return stuck and 2 or 1
""",
)

# KEYS: lock, new build. ARGV: token, milliseconds, size so far, then digests and values. Returns the new size; -1 where
# the lock is no longer held, or the new build lost something.
FILL: Final = Script(
    "fill",
    f"""{_WRITE}
local size = tonumber(ARGV[3])
if redis.call('GET', KEYS[1]) ~= ARGV[1] or redis.call('HLEN', KEYS[2]) ~= size then
  return -1
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
size = size + write(KEYS[2], 4)
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return size
""",
)

# KEYS: lock, new build, keys. ARGV: token, epoch, head, tip, size, channel, message.
# Returns -1 where it is in place, -2 where it cannot be, else the head that it has to come up to first.
INSTALL: Final = Script(
    "install",
    f"""{_NUMBER}
local size = redis.call('HLEN', KEYS[2])
if redis.call('GET', KEYS[1]) ~= ARGV[1] or size ~= tonumber(ARGV[5]) then
  return -2
end
local v = redis.call('HMGET', KEYS[3], 'epoch', 'head', 'complete', 'stamp')
local head = number(v[2])
if v[1] == ARGV[2] and v[3] == '{COMPLETE}' and head and head > tonumber(ARGV[3]) then
  return head
end
redis.call('HSET', KEYS[2], 'epoch', ARGV[2], 'build', ARGV[1], 'head', ARGV[3], 'tip', ARGV[4], 'size', size,
           'complete', '{COMPLETE}', 'stamp', v[4] or '')
redis.call('PERSIST', KEYS[2])
redis.call('UNLINK', KEYS[3])
redis.call('RENAME', KEYS[2], KEYS[3])
redis.call('DEL', KEYS[1])
if ARGV[7] ~= '' then
  redis.call('PUBLISH', ARGV[6], ARGV[7])
end
return -1
""",
)

# KEYS: lock, new build. ARGV: token.
GIVE_UP: Final = Script(
    "give_up",
    """
redis.call('UNLINK', KEYS[2])
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 1
""",
)
