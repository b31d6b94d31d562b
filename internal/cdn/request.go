package cdn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	// DefaultTimeout bounds a request.
	DefaultTimeout = 10 * time.Second
	// maxAnswer is how much of an answer is read.
	maxAnswer = 64 << 10
	// maxText is how much of an answer is shown, in bytes.
	maxText = 200
)

// NewClient returns a client for requests to caches. The proxy is that of the
// environment (HTTPS_PROXY, NO_PROXY). Redirects are not followed: they would
// turn a purge into something else, and take secrets elsewhere.
func NewClient(timeout time.Duration) *http.Client {
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		transport = &http.Transport{Proxy: http.ProxyFromEnvironment}
	}
	return &http.Client{
		Timeout:       timeout,
		Transport:     transport.Clone(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// do sends a request and returns the answer with its body, or an error for
// whatever is no success. The secret is kept out of the error.
func do(ctx context.Context, client *http.Client, req *http.Request, secret string) (*http.Response, []byte, error) {
	req.Header.Set("User-Agent", "icache-agent")
	resp, err := client.Do(req.WithContext(ctx))
	if err != nil {
		return nil, nil, err // the URL in it is without a password
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode >= 200 && resp.StatusCode <= 299 {
		if err != nil {
			return nil, nil, fmt.Errorf("read the answer: %w", err)
		}
		return resp, body, nil
	}
	return nil, nil, failure(resp, string(body), secret)
}

// failure makes an error of an answer. What else went wrong while its body was
// read does not matter.
func failure(resp *http.Response, text, secret string) *Error {
	return &Error{Status: resp.StatusCode, Text: printable(text, secret), RetryAfter: retryAfter(resp.Header, time.Now())}
}

// Error implements error.
func (e *Error) Error() string {
	text := fmt.Sprintf("it answered %d %s", e.Status, http.StatusText(e.Status))
	if e.Text != "" {
		text += ": " + e.Text
	}
	return text
}

// printable returns the beginning of a text in one line.
func printable(text, secret string) string {
	if secret != "" {
		text = strings.ReplaceAll(text, secret, "(hidden)")
	}
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

// retryAfter reads for how long a cache wants to be left alone: a number of
// seconds or a date, or, of Fastly, when its count begins again.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.ParseInt(value, 10, 32); err == nil {
		return max(0, time.Duration(seconds)*time.Second)
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now))
	}
	if h.Get("Fastly-RateLimit-Remaining") == "0" {
		if at, err := strconv.ParseInt(h.Get("Fastly-RateLimit-Reset"), 10, 64); err == nil {
			return max(0, time.Unix(at, 0).Sub(now))
		}
	}
	return 0
}

// post makes a request with a JSON body.
func post(url, body string) (*http.Request, error) {
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return nil, errors.New("the url is not valid")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	return req, nil
}
