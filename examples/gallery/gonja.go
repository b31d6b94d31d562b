package main

import (
	"context"
	_ "embed"
	"io"
	"strings"

	"github.com/nikolalohinski/gonja/v2"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/loaders"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/demo"
	icachegonja "github.com/icache-go/icache-agent/tmpl/gonja"
)

//go:embed list.jinja
var jinja string

func newGonja(cache *icache.Cache) (demo.Engine, error) {
	if err := icachegonja.Register(gonja.DefaultEnvironment.ControlStructures, icachegonja.Config{Cache: cache}); err != nil {
		return demo.Engine{}, err
	}
	files, err := loaders.NewMemoryLoader(map[string]string{"/list.jinja": jinja})
	if err != nil {
		return demo.Engine{}, err
	}
	cfg := gonja.DefaultConfig.Inherit()
	cfg.AutoEscape = true
	t, err := exec.NewTemplate("/list.jinja", cfg, files, gonja.DefaultEnvironment)
	if err != nil {
		return demo.Engine{}, err
	}
	return demo.Engine{Name: "gonja", Source: strings.TrimSpace(jinja), Render: func(ctx context.Context, w io.Writer, l *demo.List) error {
		return t.Execute(w, icachegonja.Context(ctx, exec.NewContext(map[string]any{"list": l})))
	}}, nil
}
