package icache

import (
	"context"
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
)

// script is a Lua script.
type script struct{ src, sha string }

func newScript(src string) *script { return &script{src, redis.NewScript(src).Hash()} }

// The scripts share one convention. KEYS are tokens, or, if ARGV[1] is "1",
// the clock followed by tokens. The clock is a hybrid logical clock in
// microseconds: it follows the time of the server but never goes back, so
// that a token which was lost and is created again gets a value it never had
// before, even if the server's time has been set back meanwhile. On a Cluster,
// where the clock would be in another slot than the tokens, it is left out.
//
// Values stay below 2^53 until the year 2255, so the arithmetic of Lua, which
// is that of doubles, is exact. A value beyond is not the work of this package
// and left to INCR; a value that is no integer at all is replaced.
const luaNow = `
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local first = 1
if ARGV[1] == '1' then
  first = 2
  local c = tonumber(redis.call('GET', KEYS[1]) or 0)
  if c and c >= now and c < 9007199254740000 then now = c + 1 end
end
local ttl = tonumber(ARGV[2])
local s = string.format('%.0f', now)
`

// bumpScript increments tokens. ARGV[2] is the time to live of the tokens it
// creates, in seconds, 0 for none. ARGV[3] says what to do with keys that hold
// no token: "create" one if the key is absent; "skip" absent keys; "scan": skip
// whatever does not look like a token. It returns the number of tokens written.
//
// Two runs over the same token in one call count as one: that is why it sets
// what it has computed and does not use INCRBY. SET … KEEPTTL for tokens that
// exist and one MSET for those that do not was the fastest of the forms that
// keep a time to live (docs/protocol.md).
var bumpScript = newScript(luaNow + `
local mode = ARGV[3]
local vals = redis.call('MGET', unpack(KEYS, first))
local fresh, m, n = {}, 0, 0
for i = 1, #vals do
  local k, v = KEYS[first + i - 1], vals[i]
  local old = v and tonumber(v)
  if not v then
    if mode == 'create' then
      if ttl > 0 then
        redis.call('SET', k, s, 'EX', ttl)
      else
        fresh[m + 1] = k
        fresh[m + 2] = s
        m = m + 2
      end
      n = n + 1
    end
  elseif mode ~= 'scan' or (old and old >= 1e15 and string.find(v, '^%d+$')) then
    if not old or old < now or old % 1 ~= 0 then
      redis.call('SET', k, s, 'KEEPTTL')
    elseif old < 9007199254740000 then
      redis.call('SET', k, string.format('%.0f', old + 1), 'KEEPTTL')
    elseif type(redis.pcall('INCR', k)) ~= 'number' then
      redis.call('SET', k, s, 'KEEPTTL')
    end
    n = n + 1
  end
end
if first == 2 and n > 0 then
  fresh[m + 1] = KEYS[1]
  fresh[m + 2] = s
  m = m + 2
end
if m > 0 then redis.call('MSET', unpack(fresh)) end
return n
`)

// seedScript returns the values of tokens and creates those that are absent.
// ARGV[2] is their time to live in seconds, 0 for none.
var seedScript = newScript(luaNow + `
local vals = redis.call('MGET', unpack(KEYS, first))
local made = false
for i = 1, #vals do
  if not vals[i] then
    local k = KEYS[first + i - 1]
    if ttl > 0 then redis.call('SET', k, s, 'EX', ttl) else redis.call('SET', k, s) end
    vals[i] = s
    made = true
  end
end
if first == 2 and made then redis.call('SET', KEYS[1], s) end
return vals
`)

// legacyScript is the incr of django-icache: the first one stores 0.
var legacyScript = newScript(`
for i = 1, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then redis.call('INCR', KEYS[i]) else redis.call('SET', KEYS[i], 0) end
end
return #KEYS
`)

// dropScript deletes a fragment if it still has the version ARGV[1], eight
// bytes at the offset where the header has them.
var dropScript = newScript(`
if redis.call('GETRANGE', KEYS[1], 8, 15) == ARGV[1] then return redis.call('UNLINK', KEYS[1]) end
return 0
`)

// call is one run of a script: the arguments of EVALSHA, of which the first
// two, the command and the script, are filled in by runScripts.
type call []any

// newCall returns a call with room for a number of keys.
func newCall(keys int) call { return make(call, 3, 3+keys+4) }

// end adds the arguments after the last key.
func (c call) end(args ...any) call {
	c[2] = len(c) - 3
	return append(c, args...)
}

func (c call) eval(command, script string) call {
	c[0], c[1] = command, script
	return c
}

// runScripts runs a script several times in one round trip and returns the
// commands. It sends EVALSHA and, for servers that do not know the script yet
// or have forgotten it, EVAL: inside a pipeline nobody else does.
func runScripts(ctx context.Context, rdb redis.UniversalClient, script *script, calls []call) []*redis.Cmd {
	cmds := make([]*redis.Cmd, len(calls))
	send := func(command, text string, which []int) {
		if len(which) == 1 {
			i := which[0]
			cmds[i] = redis.NewCmd(ctx, calls[i].eval(command, text)...)
			_ = rdb.Process(ctx, cmds[i]) // the command has the error
			return
		}
		pipe := rdb.Pipeline()
		for _, i := range which {
			cmds[i] = redis.NewCmd(ctx, calls[i].eval(command, text)...)
			_ = pipe.Process(ctx, cmds[i])
		}
		_, _ = pipe.Exec(ctx) // each command has its own error
	}
	which := make([]int, len(calls))
	for i := range which {
		which[i] = i
	}
	send("evalsha", script.sha, which)
	again := which[:0]
	for i, cmd := range cmds {
		if isNoScript(cmd.Err()) {
			again = append(again, i)
		}
	}
	if len(again) > 0 {
		send("eval", script.src, again)
	}
	return cmds
}

func isNoScript(err error) bool { return err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") }

// isOOM reports whether Redis refused a write for want of memory. Inside a
// script the error carries the script's own words before or after.
func isOOM(err error) bool {
	return err != nil && (redis.IsOOMError(err) || strings.Contains(err.Error(), "OOM command not allowed"))
}

func isClusterError(err error) bool {
	if err == nil {
		return false
	}
	if _, moved := redis.IsMovedError(err); moved {
		return true
	}
	return strings.Contains(err.Error(), "CROSSSLOT")
}

// isNil reports the reply for an absent key.
func isNil(err error) bool { return errors.Is(err, redis.Nil) }

// legacyScanScript increments every integer among the keys.
var legacyScanScript = newScript(`
local n = 0
for i = 1, #KEYS do
  local v = redis.pcall('GET', KEYS[i])
  if type(v) == 'string' and string.find(v, '^%-?%d+$') and type(redis.pcall('INCR', KEYS[i])) == 'number' then n = n + 1 end
end
return n
`)
