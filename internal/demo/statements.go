package demo

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// statement is one that the page offers. Each can be run again and again.
type statement struct {
	SQL   string
	Hint  string
	Table string // that it changes

	run []string // what is executed, if that is more than SQL
}

var statements = []statement{
	{
		SQL:   "UPDATE icache_demo.films SET title = 'Se7en' WHERE id = 12",
		Hint:  "one row; run it again to change it back",
		Table: "icache_demo.films",
		run:   []string{"UPDATE icache_demo.films SET title = CASE title WHEN 'Se7en' THEN 'Seven' ELSE 'Se7en' END WHERE id = 12"},
	},
	{
		SQL:   "UPDATE icache_demo.ratings SET stars = 6 - stars WHERE film_id = 12",
		Hint:  "the ratings of every viewer of one film, one outbox row",
		Table: "icache_demo.ratings",
	},
	{
		SQL:   "UPDATE icache_demo.ratings SET stars = 1 + stars % 5",
		Hint:  "every rating there is, in one statement",
		Table: "icache_demo.ratings",
	},
	{
		SQL:  "BEGIN; DELETE FROM icache_demo.ratings; ROLLBACK",
		Hint: "rolled back: nothing is bumped, everything stays cached",
		run:  []string{"BEGIN", "DELETE FROM icache_demo.ratings", "ROLLBACK"},
	},
}

// run executes a statement on a connection that the page uses for nothing else.
func (d database) run(ctx context.Context, s statement) error {
	conn, err := pgx.ConnectConfig(ctx, d.pool.Config().ConnConfig)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	run := s.run
	if run == nil {
		run = []string{s.SQL}
	}
	for _, sql := range run {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}
