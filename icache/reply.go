package icache

import (
	"bytes"
	"context"
	"slices"

	"github.com/redis/go-redis/v9"
)

// values are the replies to an MGET, in its order: nil for an absent key. They
// share the memory of the reply and must not be changed.
type values [][]byte

// mget returns the values of keys.
func (s *server) mget(ctx context.Context, rdb redis.UniversalClient, keys []string) (values, error) {
	return s.mgetArgs(ctx, rdb, mgetArgs(keys), nil)
}

func mgetArgs(keys []string) []any {
	args := make([]any, 0, len(keys)+1)
	args = append(args, "mget")
	for _, k := range keys {
		args = append(args, k)
	}
	return args
}

// mgetArgs is mget for a command that has been made before, which it does not
// change. It appends to dst.
func (s *server) mgetArgs(ctx context.Context, rdb redis.UniversalClient, args []any, dst values) (values, error) {
	if s.cluster {
		return s.gets(ctx, rdb, args[1:], dst)
	}
	// As it came, the reply is a few pieces of memory. Taken apart by the client
	// it is four for each value, and a hit would cost more than a bare MGET.
	// Each command has arguments of its own: hooks may change them in place.
	cmd := redis.NewRawCmd(ctx, slices.Clone(args)...)
	if err := rdb.Process(ctx, cmd); err != nil {
		return nil, err
	}
	if vals, ok := parseReply(dst, cmd.Val(), len(args)-1); ok {
		return vals, nil
	}
	// An error, most likely. The client tells those that pass from others.
	slow := redis.NewSliceCmd(ctx, slices.Clone(args)...)
	_ = rdb.Process(ctx, slow) // the command has the error
	raw, err := slow.Result()
	for _, v := range raw {
		switch v := v.(type) {
		case nil:
			dst = append(dst, nil)
		case string:
			dst = append(dst, []byte(v))
		default:
			return nil, unexpected("value", v)
		}
	}
	return dst, err
}

// gets reads keys one by one, in a pipeline that the client splits by slot.
func (s *server) gets(ctx context.Context, rdb redis.UniversalClient, keys []any, dst values) (values, error) {
	pipe := rdb.Pipeline()
	cmds := make([]*redis.StringCmd, len(keys))
	for i, k := range keys {
		cmds[i] = redis.NewStringCmd(ctx, "get", k)
		_ = pipe.Process(ctx, cmds[i])
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	for _, cmd := range cmds {
		switch v, err := cmd.Bytes(); {
		case err == nil:
			dst = append(dst, v)
		case isNil(err):
			dst = append(dst, nil)
		default:
			return nil, err
		}
	}
	return dst, nil
}

// parseReply appends the n values of an array of strings, as Redis sends it in
// RESP2 and RESP3, to dst. ok is false if it is anything else.
func parseReply(dst values, b []byte, n int) (vals values, ok bool) {
	count, b, ok := parseLength(b, '*')
	if !ok || count != n {
		return nil, false
	}
	for range n {
		if rest, null := bytes.CutPrefix(b, null3); null {
			dst, b = append(dst, nil), rest
			continue
		}
		if rest, null := bytes.CutPrefix(b, null2); null {
			dst, b = append(dst, nil), rest
			continue
		}
		var size int
		if size, b, ok = parseLength(b, '$'); !ok || len(b)-size < len(crlf) || b[size] != '\r' || b[size+1] != '\n' {
			return nil, false
		}
		dst, b = append(dst, b[:size:size]), b[size+len(crlf):]
	}
	return dst, len(b) == 0
}

const crlf = "\r\n"

var (
	null2 = []byte("$-1\r\n")
	null3 = []byte("_\r\n")
)

// parseLength reads a line such as "$12".
func parseLength(b []byte, kind byte) (n int, rest []byte, ok bool) {
	const digits = 10 // more than any reply is long
	if len(b) == 0 || b[0] != kind {
		return 0, nil, false
	}
	i := 1
	for ; i < len(b) && i <= digits && '0' <= b[i] && b[i] <= '9'; i++ {
		n = 10*n + int(b[i]-'0')
	}
	if i == 1 || len(b)-i < len(crlf) || b[i] != '\r' || b[i+1] != '\n' {
		return 0, nil, false
	}
	return n, b[i+len(crlf):], true
}
