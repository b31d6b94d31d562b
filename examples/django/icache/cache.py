from django.core.cache import caches
from django_redis import get_redis_connection

# KEYS: the clock, then tokens. ARGV: "seed" or "incr". Returns the tokens' values.
#
# A token that is absent is created with the time of the server in µs, and an
# increment takes it there at least. So a token that was evicted never gets a
# value back that it has had, and the text of an evicted token is never taken for
# current. The clock makes sure of that when the server's time is set back. Time
# and SET have to be in one script; and the sum must not be made here, because
# numbers in Lua are doubles.
SCRIPT = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local clock = tonumber(redis.call('GET', KEYS[1]) or 0)
if clock and clock >= now and clock < 9007199254740000 then now = clock + 1 end
local values, wrote = redis.call('MGET', unpack(KEYS, 2)), false
for i = 1, #values do
  local key, old = KEYS[i + 1], values[i] and tonumber(values[i])
  if not values[i] then
    values[i] = string.format('%.0f', now)
    redis.call('SET', key, values[i])
    wrote = true
  elseif ARGV[1] == 'incr' and old and old >= 9007199254740000 then
    redis.call('INCR', key)
    values[i] = redis.call('GET', key)
  elseif ARGV[1] == 'incr' then
    values[i] = string.format('%.0f', math.max(now, (old or 0) + 1))
    redis.call('SET', key, values[i], 'KEEPTTL')
    wrote = true
  end
end
if wrote then redis.call('SET', KEYS[1], string.format('%.0f', now)) end
return values
"""

CLOCK = "icache:clock"  # the agent's, not under the prefix of the site


class ICache:
    """The five operations of the original, on a cache of django-redis."""

    def __init__(self, alias="default"):
        self.alias = alias

    @property
    def cache(self):
        return caches[self.alias]

    def incr(self, token):
        """Outdate every fragment that depends on the token. Call it after the commit."""
        self.incr_many([token])

    def incr_many(self, tokens):
        self._run("incr", tokens)

    def get_sum(self, tokens):
        """The version of what depends on the tokens. Read it before the data.

        Tokens that are absent are created: a missing one never counts 0. A value
        that is no integer raises ValueError.
        """
        return sum(int(value) for value in self._run("seed", tokens))

    def set_versioned(self, key, value, version):
        """Store a value with the version that was read before its data."""
        self.cache.set(key, (version, value), timeout=None)

    def get_versioned(self, key, version):
        """The value, or None if it was stored with another version, and then it is deleted."""
        entry = self.cache.get(key)
        if entry is None:
            return None
        stored, value = entry
        if stored == version:
            return value
        self.cache.delete(key)
        return None

    def _run(self, what, tokens):
        tokens = list(dict.fromkeys(tokens))  # a token that is named twice counts once
        if not tokens:
            return []
        # write=True: from the master. A replica may not have the increment yet.
        script = get_redis_connection(self.alias, write=True).register_script(SCRIPT)
        return script(keys=[CLOCK, *(str(self.cache.make_key(token)) for token in tokens)], args=[what])
