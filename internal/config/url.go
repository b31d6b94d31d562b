package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/icache-go/icache-agent/mapping"
)

// URL is a connection URL or string, which may hold a password. It prints,
// logs and marshals without it; string(u) is the whole.
type URL string

const (
	hidden = "(hidden)"
	masked = "xxxxx"
)

// Parts of a connection string that are shown; others are left out.
var (
	harmlessParams = []string{
		"sslmode", "sslrootcert", "application_name", "target_session_attrs", "connect_timeout", "search_path", "user",
		"master", "db", "protocol", "client_name", "dial_timeout", "read_timeout", "write_timeout", "pool_size",
	}
	harmlessWords = []string{"host", "hostaddr", "port", "dbname", "user", "sslmode", "service", "application_name"}

	withScheme    = regexp.MustCompile(`^[a-z][a-z-]*://`)
	keywordValue  = regexp.MustCompile(`(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|[^\s'\\]+)(?:\s+|$)`)
	keywordValues = regexp.MustCompile(`^\s*(?:` + keywordValue.String() + `)+$`)
)

// String returns the URL without password and without anything that might be
// one. Where that cannot be told apart it says so instead.
func (u URL) String() string {
	switch {
	case u == "":
		return ""
	case !withScheme.MatchString(string(u)):
		return redactWords(string(u))
	}
	p, err := url.Parse(string(u))
	if err != nil || misread(p) {
		return hidden
	}
	if p.User != nil {
		if _, ok := p.User.Password(); ok {
			p.User = url.UserPassword(p.User.Username(), masked)
		}
	}
	params, err := url.ParseQuery(p.RawQuery)
	if err != nil {
		return hidden
	}
	for name := range params {
		if !slices.Contains(harmlessParams, name) {
			delete(params, name)
		}
	}
	p.RawQuery = params.Encode()
	return p.String()
}

// misread reports whether a password with a bare / ? or # in it has been taken
// for something else: the @ after it is then not where it belongs.
func misread(u *url.URL) bool {
	return strings.Contains(u.Path+u.RawQuery+u.Fragment+u.Opaque, "@") || u.Fragment != ""
}

// redactWords is String for "host=db user=icache password=…".
func redactWords(s string) string {
	if !keywordValues.MatchString(s) {
		return hidden
	}
	var shown []string
	for _, m := range keywordValue.FindAllStringSubmatch(s, -1) {
		if slices.Contains(harmlessWords, m[1]) {
			shown = append(shown, m[1]+"="+m[2])
		}
	}
	if len(shown) == 0 {
		return hidden
	}
	return strings.Join(shown, " ")
}

// Format implements [fmt.Formatter]: no verb shows the password.
func (u URL) Format(f fmt.State, verb rune) {
	_, _ = fmt.Fprintf(f, fmt.FormatString(f, verb), u.String())
}

// MarshalText implements [encoding.TextMarshaler]; slog uses it as well.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

const postgresHint = "write postgres://user@host:5432/database, with special characters in the password percent-encoded, or put it into url_file or PGPASSWORD"

// checkPostgres says what is wrong with a URL, without quoting any of it: where
// a URL is malformed, its password may be anywhere.
func checkPostgres(u URL) *mapping.Error {
	s := string(u)
	if s == "" {
		return nil
	}
	if scheme, _, ok := strings.Cut(s, "://"); ok {
		if scheme != "postgres" && scheme != "postgresql" {
			return &mapping.Error{Msg: "postgres.url is not a Postgres URL", Hint: postgresHint}
		}
		if p, err := url.Parse(s); err == nil && p.User == nil && misread(p) {
			return &mapping.Error{Msg: "postgres.url is not a valid URL", Hint: postgresHint}
		}
	} else if !strings.Contains(s, "=") {
		return &mapping.Error{Msg: "postgres.url is not a Postgres URL", Hint: postgresHint}
	}
	if _, err := pgconn.ParseConfig(s); err != nil {
		if file, ok := errors.AsType[*fs.PathError](err); ok {
			return &mapping.Error{Msg: "postgres.url names a file that cannot be read: " + file.Error()}
		}
		return &mapping.Error{Msg: "postgres.url is not a valid URL", Hint: postgresHint}
	}
	return nil
}
