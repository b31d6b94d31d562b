package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/jackc/pgx/v5"

	"github.com/icache-go/icache-agent/mapping"
	"github.com/icache-go/icache-agent/migrations"
)

func Example() {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, "postgres://localhost/app")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)

	rules, err := mapping.Compile([]mapping.Rule{{
		Table:  mapping.TableName{Schema: "public", Name: "movies"},
		Tokens: []string{"movies", "movie:{id}", "genre:{genre_id}"},
	}})
	if err != nil {
		log.Fatal(err)
	}
	m, err := migrations.New(conn, migrations.Config{Rules: rules})
	if err != nil {
		log.Fatal(err)
	}
	plan, err := m.Up(ctx)
	if check, ok := errors.AsType[*migrations.CheckError](err); ok {
		for _, p := range check.Problems {
			fmt.Println(p.Pos, p.Msg, p.Hint)
		}
	}
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range plan.Changes {
		fmt.Println(c.State, c.Object)
	}
}
