package main

import (
	"context"
	"embed"
	"io"
	"strings"

	"github.com/flosch/pongo2/v6"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/demo"
	icachepongo2 "github.com/icache-go/icache-agent/tmpl/pongo2"
)

//go:embed list.django list.templ
var sources embed.FS

func newPongo2(cache *icache.Cache) (demo.Engine, error) {
	source, err := sources.ReadFile("list.django")
	if err != nil {
		return demo.Engine{}, err
	}
	if err := icachepongo2.Register(icachepongo2.Config{Cache: cache}); err != nil {
		return demo.Engine{}, err
	}
	t, err := pongo2.FromBytes(source)
	if err != nil {
		return demo.Engine{}, err
	}
	return demo.Engine{Name: "pongo2", Source: strings.TrimSpace(string(source)), Render: func(ctx context.Context, w io.Writer, l *demo.List) error {
		return t.ExecuteWriter(icachepongo2.Context(ctx, pongo2.Context{"list": l}), w)
	}}, nil
}
