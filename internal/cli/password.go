package cli

import (
	"net/url"
	"strings"

	"github.com/icache-go/icache-agent/internal/config"
)

// withoutPassword returns the URL without a password, to be written down, and
// if it had one a note that says how to give it otherwise. Unlike
// [config.URL.String] it leaves a URL that works.
func withoutPassword(u config.URL, otherwise string) (text, note string) {
	note = "the password is left out: give it by " + otherwise
	scheme, rest, ok := strings.Cut(string(u), "://")
	if !ok {
		if text = u.String(); text == string(u) {
			note = ""
		}
		return text, note
	}
	had := false
	rest, query, _ := strings.Cut(rest, "?")
	authority, path := rest, ""
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		user, hosts := authority[:i], authority[i+1:]
		if user, _, had = strings.Cut(user, ":"); user != "" {
			hosts = user + "@" + hosts
		}
		authority = hosts
	}
	if values, err := url.ParseQuery(query); err == nil {
		for name := range values {
			if strings.Contains(strings.ToLower(name), "password") {
				values.Del(name)
				query, had = values.Encode(), true
			}
		}
	}
	text = scheme + "://" + authority + path
	if query != "" {
		text += "?" + query
	}
	if !had {
		note = ""
	}
	return text, note
}
