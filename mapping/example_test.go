package mapping_test

import (
	"errors"
	"fmt"

	"github.com/icache-go/icache-agent/mapping"
)

func Example() {
	movies, err := mapping.ParseTableName("public.movies")
	if err != nil {
		panic(err)
	}
	m, err := mapping.Compile([]mapping.Rule{{
		Table:  movies,
		Tokens: []string{"movies", "movie:{id}", "genre:{genre_id}"},
	}})
	if err != nil {
		panic(err)
	}

	// A film moves from genre 1 to genre 2: the trigger records both forms.
	tokens, err := m.AppendTokens(nil, mapping.Change{
		Table: movies.String(),
		Op:    mapping.Update,
		Keys:  []byte(`[{"id": "42", "genre_id": "1"}, {"id": "42", "genre_id": "2"}]`),
	})
	fmt.Println(tokens, err)

	// TRUNCATE: nobody knows which rows there were.
	tokens, err = m.AppendTokens(nil, mapping.Change{Table: movies.String(), Op: mapping.Truncate})
	fmt.Println(tokens, err)
	// Output:
	// [movies movie:42 genre:1 genre:2] <nil>
	// [movies movie:* genre:*] <nil>
}

func ExampleCompile_errors() {
	_, err := mapping.Compile([]mapping.Rule{{
		Table:  mapping.TableName{Schema: "public", Name: "movies"},
		Tokens: []string{"movie:{id", "mail:{email|hsah}"},
		Pos:    mapping.Position{File: "icache.yaml", Line: 12, Column: 5},
	}})
	fmt.Println(err)
	// Output:
	// icache.yaml:12:5: token "movie:{id": unclosed "{" (close it with "}", or write "{{" for a literal brace)
	// icache.yaml:12:5: token "mail:{email|hsah}": unknown modifier "hsah" (did you mean "hash"?)
}

func ExampleMapper_AppendTokens_malformed() {
	m, err := mapping.Compile([]mapping.Rule{{
		Table:  mapping.TableName{Schema: "public", Name: "movies"},
		Tokens: []string{"movie:{id}"},
	}})
	if err != nil {
		panic(err)
	}
	change := mapping.Change{Table: "public.movies", Op: mapping.Update, Keys: []byte(`[{"id":`)}
	tokens, err := m.AppendTokens(nil, change)
	if errors.Is(err, mapping.ErrKeys) {
		change.Keys = nil // apply it as a change of everything
		tokens, err = m.AppendTokens(tokens, change)
	}
	fmt.Println(tokens, err)
	// Output: [movie:*] <nil>
}

func ExampleMapper_AppendTokensWith() {
	m, err := mapping.Compile([]mapping.Rule{{
		Table:  mapping.TableName{Schema: "public", Name: "ratings"},
		Tokens: []string{"genre:{movie_id->movies.genre_id}"},
	}})
	if err != nil {
		panic(err)
	}
	change := mapping.Change{Table: "public.ratings", Op: mapping.Insert, Keys: []byte(`[{"movie_id": "42"}]`)}

	// Collect what a batch of changes needs, fetch it with one query for each
	// Lookup, then expand.
	keys, err := m.AppendLookups(nil, change)
	if err != nil {
		panic(err)
	}
	answers := mapping.Resolved{}
	for _, k := range keys {
		fmt.Printf("%s.%s of the row that %s = %s points to\n", k.Lookup.Ref, k.Lookup.RefColumn, k.Lookup.Column, k.Key)
		answers[k] = mapping.Value{Text: "7"}
	}
	tokens, err := m.AppendTokensWith(nil, change, answers)
	fmt.Println(tokens, err)
	// Output:
	// public.movies.genre_id of the row that movie_id = 42 points to
	// [genre:7] <nil>
}

func ExampleSource_SQL() {
	t, err := mapping.ParseTemplate("lang:{doc->>'lang'}:{id}")
	if err != nil {
		panic(err)
	}
	for _, s := range t.Sources() {
		fmt.Println(s.Name(), "=", s.SQL("n"))
	}
	// Output:
	// doc->>'lang' = (n."doc"->>'lang')
	// id = n."id"::text
}
