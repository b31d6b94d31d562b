package config

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/icache-go/icache-agent/mapping"
)

// check finds what is wrong with the values and makes the rules of the tables.
func (c *Config) check(l *layer) {
	report := func(path string, problem *mapping.Error) {
		if problem != nil {
			problem.Pos = l.at[path]
			l.problems = append(l.problems, problem)
		}
	}
	report("postgres.wake", settings["postgres.wake"].check(c.Postgres.Wake))
	report("redis.absent_tokens", settings["redis.absent_tokens"].check(c.Redis.AbsentTokens))
	report("redis.readers", settings["redis.readers"].check(c.Redis.Readers))
	report("log.level", settings["log.level"].check(c.Log.Level))
	report("log.format", settings["log.format"].check(c.Log.Format))
	report("postgres.url", checkPostgres(c.Postgres.URL))
	report("postgres.schema", checkSchema(c.Postgres.Schema))
	if c.Postgres.LockTimeout <= 0 {
		report("postgres.lock_timeout", &mapping.Error{Msg: "postgres.lock_timeout is 0, which waits for ever and makes the application wait too", Hint: "write 2s"})
	}
	if c.Redis.URL != "" {
		_, problem := parseRedis(c.Redis.URL)
		report("redis.url", problem)
	}
	if c.Redis.Lease > 0 && c.Redis.Lease < minLease {
		report("redis.lease", &mapping.Error{Msg: fmt.Sprintf("redis.lease is %s, too short to be renewed in time", c.Redis.Lease), Hint: "write 5s, or 0s for none"})
	}
	if c.Redis.WaitReplicas < 0 {
		report("redis.wait_replicas", &mapping.Error{Msg: fmt.Sprintf("redis.wait_replicas is %d", c.Redis.WaitReplicas), Hint: "use a number from 0 up"})
	}
	if strings.Count(c.Redis.TokenKey, "{token}") != 1 {
		report("redis.token_key", &mapping.Error{Msg: fmt.Sprintf("redis.token_key %s does not hold {token} once", brief(c.Redis.TokenKey)), Hint: `write "icache:t:{token}"`})
	}
	report("http.listen", checkListen(c.HTTP.Listen))
	c.checkCDNs(l)
	c.checkTables(l)
}

// minLease leaves time for a few canaries.
const minLease = time.Second

func checkSchema(name string) *mapping.Error {
	switch {
	case name == "":
		return &mapping.Error{Msg: "postgres.schema is empty", Hint: "write icache"}
	case len(name) > 63 || !utf8.ValidString(name) || strings.ContainsRune(name, 0):
		return &mapping.Error{Msg: "postgres.schema is not a name that Postgres can keep", Hint: "use 63 bytes at most"}
	case strings.HasPrefix(name, "pg_"):
		return &mapping.Error{Msg: "postgres.schema begins with pg_, which Postgres keeps for itself", Hint: "write icache"}
	}
	return nil
}

func checkListen(addr string) *mapping.Error {
	if addr == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(addr)
	if n, bad := strconv.Atoi(port); err == nil && bad == nil && n >= 0 && n <= 65535 {
		return nil
	}
	return &mapping.Error{Msg: "http.listen is not host:port: " + brief(addr), Hint: "write 127.0.0.1:9180, or :9180 for every interface"}
}

// checkTables makes the rules and lets mapping check them.
func (c *Config) checkTables(l *layer) {
	reported := map[mapping.Position]bool{{}: false}
	for _, p := range l.problems {
		reported[p.Pos] = p.Pos.Line > 0
	}
	add := func(e *mapping.Error) {
		if !reported[e.Pos] { // else it is a consequence
			l.problems = append(l.problems, e)
		}
	}
	rules := make([]mapping.Rule, 0, len(c.Tables))
	c.patterns = nil
	for i := range c.Tables {
		t, path := &c.Tables[i], fmt.Sprintf("tables[%d]", i)
		if isPattern(t.Table) {
			p, problems := t.pattern(l, path)
			for _, e := range problems {
				add(e)
			}
			c.patterns = append(c.patterns, p)
			continue
		}
		rule, problems := t.rule(l, path)
		rules = append(rules, rule)
		for _, field := range l.misspelt[path] {
			reported[rule.At(field)] = true // it is there under another name
		}
		if len(t.Exclude) > 0 {
			problems = append(problems, &mapping.Error{Pos: rule.At("exclude"), Msg: "exclude in a rule for one table", Hint: `it goes with wildcards, as in table: "public.*"`})
		}
		for _, e := range problems {
			add(e)
		}
		if rule.Table.Schema == c.Postgres.Schema {
			add(&mapping.Error{
				Pos:  rule.At("table"),
				Msg:  "table " + rule.Table.String() + " is in the schema that icache keeps its own objects in",
				Hint: "watch tables of other schemas",
			})
		}
	}
	_, err := mapping.Compile(rules)
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			if e, ok := errors.AsType[*mapping.Error](one); ok {
				add(l.pointed(e))
			}
		}
	}
	c.rules = rules
}

// rule makes a rule of an item. Mistakes in names come back; the rest is left
// to mapping.
func (t *Table) rule(l *layer, path string) (mapping.Rule, []*mapping.Error) {
	r := mapping.Rule{
		Columns: t.Columns,
		When:    t.When,
		Tokens:  t.Tokens,
		MaxKeys: t.MaxKeys,
		Always:  t.Always,
		Settle:  time.Duration(max(t.Settle, 0)),

		SettleReplicas: t.Settle == SettleReplicas,

		Pos:    l.at[path],
		Fields: map[string]mapping.Position{},
	}
	for p, pos := range l.at {
		if name, ok := strings.CutPrefix(p, path+"."); ok {
			r.Fields[name] = pos
		}
	}
	var problems []*mapping.Error
	if t.Table != "" {
		var err error
		if r.Table, err = mapping.ParseTableName(t.Table); err != nil {
			problems = append(problems, l.pointed(tableProblem(t.Table, r.At("table"), err)))
		}
	}
	if _, written := r.Fields["table"]; written && r.Table.Name == "" {
		r.Table = mapping.TableName{Schema: "?", Name: path} // has been complained about
	}
	if _, written := r.Fields["max_keys"]; written && t.MaxKeys == 0 {
		problems = append(problems, &mapping.Error{Pos: r.At("max_keys"), Msg: "max_keys is 0", Hint: "use a number from 1 up, or leave it out for 1000"})
	}
	for i, word := range t.On {
		op, err := mapping.ParseOp(word)
		if err == nil {
			r.On = append(r.On, op)
		} else if e, ok := errors.AsType[*mapping.Error](err); ok {
			e.Pos = r.At(fmt.Sprintf("on[%d]", i))
			problems = append(problems, e)
		}
	}
	return r, problems
}

func tableProblem(name string, pos mapping.Position, err error) *mapping.Error {
	e := &mapping.Error{Pos: pos, Msg: "table " + brief(name) + ": " + err.Error(), Err: err}
	if s, ok := errors.AsType[*mapping.SyntaxError](err); ok {
		e.Msg, e.Hint = "table "+brief(name)+": "+s.Msg, s.Hint
	}
	return e
}

// pointed moves the position of a syntax error from the start of the text to
// the place in it, if the text stands there as it is.
func (l *layer) pointed(e *mapping.Error) *mapping.Error {
	s, ok := errors.AsType[*mapping.SyntaxError](e)
	text, verbatim := l.texts[e.Pos]
	if ok && verbatim && s.Offset <= len(text) {
		e.Pos.Column += utf8.RuneCountInString(text[:s.Offset])
	}
	return e
}

// doubts returns warnings about what is valid but probably not meant.
func (c *Config) doubts() []string {
	if len(c.rules)+len(c.patterns) == 0 {
		return []string{"no tables are watched (list them under tables)"}
	}
	var warnings []string
	warn := func(r *mapping.Rule, i int, text string) {
		if pos := r.At(fmt.Sprintf("tokens[%d]", i)); !pos.IsZero() {
			text = pos.String() + ": " + text
		}
		warnings = append(warnings, text)
	}
	for i := range c.rules {
		r := &c.rules[i]
		for j, token := range r.Tokens {
			t, err := mapping.ParseTemplate(token)
			if err != nil {
				continue // mapping has accepted them all
			}
			if plain, ok := t.Plain(); ok {
				if m := doubled.FindStringSubmatch(plain); m != nil {
					warn(r, j, fmt.Sprintf("token %s is the text %s itself (for a column write {%s})", brief(token), brief(plain), m[1]))
				}
			} else if t.Fallback() == mapping.Generation {
				warn(r, j, fmt.Sprintf("token %s has no group: a bulk change of %s outdates the whole cache (begin it with a word and a colon)", brief(token), r.Table))
			}
		}
	}
	return warnings
}

// doubled is what {{column}} comes to.
var doubled = regexp.MustCompile(`:\{(\w+)\}`)
