"""Caching without timeouts: a fragment is served while the sum of its tokens is unchanged.

Readers of this package follow docs/protocol.md; icache-agent increments the tokens
when the database has changed. An application may increment tokens of its own:

    from icache import icache
    icache.incr('weather')    # after the change is committed
"""

from .cache import ICache

icache = ICache()
