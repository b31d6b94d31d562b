package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/a-h/templ"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/demo"
	icachetempl "github.com/icache-go/icache-agent/tmpl/templ"
)

//go:generate go run github.com/a-h/templ/cmd/templ@v0.3.977 generate -f list.templ

func newTempl(cache *icache.Cache) (demo.Engine, error) {
	source, err := sources.ReadFile("list.templ")
	if err != nil {
		return demo.Engine{}, err
	}
	fragments := icachetempl.New(icachetempl.Config{Cache: cache})
	return demo.Engine{Name: "templ", Source: strings.TrimSpace(string(source)), Render: func(ctx context.Context, w io.Writer, l *demo.List) error {
		return list(fragments, l).Render(ctx, w)
	}}, nil
}

// token is the token of a film.
func token(id int) string { return fmt.Sprintf("film:%d", id) }

// fail ends the rendering if there is an error.
func fail(err error) templ.Component {
	return templ.ComponentFunc(func(context.Context, io.Writer) error { return err })
}
