package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/config"
)

const cdnTables = "\ntables:\n  - {table: movies, tokens: [movies]}\n"

func loadCDN(t *testing.T, list string, environ ...string) (*config.Config, error) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "token"), []byte("  s3cret\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "nothing"), nil, 0o600))
	file := filepath.Join(dir, "icache.yaml")
	require.NoError(t, os.WriteFile(file, []byte("cdn:\n"+list+cdnTables), 0o600))
	cfg, _, err := config.Load(config.Options{File: file, Environ: append([]string{"PATH=/bin"}, environ...)})
	if err != nil {
		err = fmt.Errorf("%s", strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), ""))
	}
	return cfg, err
}

func TestLoad_CDN(t *testing.T) {
	t.Parallel()
	cfg, err := loadCDN(t, `  - {type: fastly, service: SU1Z0isxPaozGVKXdv0eY, token_file: token, soft: true, rate: 300/min, repeat_after: 0s}
  - {type: cloudflare, name: eu, zone: 023e105f4ecef8ad9ca31a8372d0c353, timeout: 3s}
  - {type: varnish, name: v1, url: "http://user:pw@varnish-1:6081/"}
  - {type: varnish, name: v2, url: "http://varnish-2:6081"}
`, "CLOUDFLARE_API_TOKEN=other", "FASTLY_API_TOKEN=not this")
	require.NoError(t, err)
	require.NoError(t, cfg.RequireCDN())
	f, c, v := cfg.CDN[0], cfg.CDN[1], cfg.CDN[2]
	require.Equal(t, "fastly", f.Name)
	require.Equal(t, "s3cret", f.Token(), "from the file, which is beside the config")
	require.True(t, f.Soft)
	require.Zero(t, f.RepeatAfter)
	require.Equal(t, 10*time.Second, f.Timeout)
	limit, burst := f.Rate.PerSecond()
	require.InDelta(t, 5.0, limit, 1e-9)
	require.Equal(t, 300, burst)
	require.Equal(t, []any{"eu", "other", config.Rate("5/s"), 2 * time.Second, 3 * time.Second}, []any{c.Name, c.Token(), c.Rate, c.RepeatAfter, c.Timeout})
	require.Equal(t, "http://user:pw@varnish-1:6081", string(v.URL))
	require.Equal(t, config.Rate("100/s"), v.Rate)

	shown := fmt.Sprintf("%+v", cfg.Redacted().CDN)
	require.NotContains(t, shown, "s3cret")
	require.NotContains(t, shown, "pw")
	require.Equal(t, "s3cret", cfg.CDN[0].Token(), "the copy was redacted, not this")

	other, err := loadCDN(t, "  - {type: varnish, url: http://v}\n")
	require.NoError(t, err)
	require.Equal(t, []string{"cdn"}, config.NeedRestart(cfg, other))
	require.Empty(t, config.NeedRestart(other, other))

	missing, err := loadCDN(t, "  - {type: fastly, service: a}\n")
	require.NoError(t, err, "a check needs no secrets")
	require.EqualError(t, missing.RequireCDN(), "no API token for cdn fastly (write token_file: with the path of a file that holds it, or set FASTLY_API_TOKEN)")
}

func TestLoad_CDNMistakes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ list, want string }{
		"no type":      {"  - {service: a}\n", `icache.yaml:2:5: unknown cdn.type "" (use fastly, cloudflare or varnish)`},
		"unknown type": {"  - {type: fastli, service: a}\n", `icache.yaml:2:12: unknown cdn.type "fastli" (did you mean "fastly"?)`},
		"unknown key":  {"  - {type: fastly, servic: a}\n", `icache.yaml:2:5: cdn[0] has no service, and type fastly needs it (write the id of the service)` + "\n" + `icache.yaml:2:20: unknown key "servic" in cdn[0] (did you mean "service"?)`},
		"other's key":  {"  - {type: cloudflare, zone: a, service: b}\n", `icache.yaml:2:42: cdn[0].service, and type cloudflare has none (remove it)`},
		"no soft":      {"  - {type: cloudflare, zone: a, soft: true}\n", `icache.yaml:2:39: cdn[0].soft, and type cloudflare has none (remove it)`},
		"no zone":      {"  - {type: cloudflare}\n", `icache.yaml:2:5: cdn[0] has no zone, and type cloudflare needs it (write the id of the zone)`},
		"no url":       {"  - type: varnish\n", `icache.yaml:2:5: cdn[0] has no url, and type varnish needs it (write http://varnish:6081)`},
		"not a url":    {"  - {type: varnish, url: varnish:6081}\n", `icache.yaml:2:26: cdn[0].url is not the URL of a server (write http://varnish:6081)`},
		"same name":    {"  - {type: varnish, url: http://a}\n  - {type: varnish, url: http://b}\n", `icache.yaml:3:5: cdn[1] has the name of cdn[0]: "varnish" (give each a name)`},
		"odd name":     {"  - {type: varnish, url: http://a, name: a.b}\n", `icache.yaml:2:42: cdn[0].name "a.b" is not made of letters, digits, _ and - (write edge, or cdn-1)`},
		"rate":         {"  - {type: varnish, url: http://a, rate: 10}\n", `icache.yaml:2:42: cdn[0].rate must be a text, not a number (put it in quotes: "10")`},
		"rate of none": {"  - {type: varnish, url: http://a, rate: 0/s}\n", `icache.yaml:2:42: cdn[0].rate is not a rate: "0/s" (write it as 10/s, 300/min or 5000/h)`},
		"rate unit":    {"  - {type: varnish, url: http://a, rate: 10/d}\n", `icache.yaml:2:42: cdn[0].rate is not a rate: "10/d" (write it as 10/s, 300/min or 5000/h)`},
		"timeout":      {"  - {type: varnish, url: http://a, timeout: 0s}\n", `icache.yaml:2:45: cdn[0].timeout is 0, which waits for ever (write 10s)`},
		"bare number":  {"  - {type: varnish, url: http://a, repeat_after: 2}\n", `icache.yaml:2:50: cdn[0].repeat_after is a number without a unit: 2 (write 2s for seconds, 2ms for milliseconds)`},
		"no file":      {"  - {type: fastly, service: a, token_file: nowhere}\n", `icache.yaml:2:44: cannot read cdn[0].token_file "nowhere": no such file or directory`},
		"empty file":   {"  - {type: fastly, service: a, token_file: nothing}\n", `icache.yaml:2:44: cdn[0].token_file "nothing" is empty (write the token into it)`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := loadCDN(t, tc.list)
			require.Error(t, err)
			require.Equal(t, tc.want, err.Error())
		})
	}
}
