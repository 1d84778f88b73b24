package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/config"
)

func parseConfig(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse("s.toml", text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWhatIsNotServedYetIsRefusedByName(t *testing.T) {
	err := checkServed(parseConfig(t, `
[listen]
policy = ["unix:/run/p.sock"]
http = "127.0.0.1:9995"
`))
	if err == nil {
		t.Fatal("served")
	}
	var got []string
	for line := range strings.Lines(err.Error()) {
		where, rest, _ := strings.Cut(line, ": ")
		key, _, _ := strings.Cut(rest, ":")
		got = append(got, where+" "+key)
	}
	want := []string{"s.toml:4 listen.http"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// The built-in values, written out or left empty, ask for nothing.
func TestDefaultsAreServed(t *testing.T) {
	var all strings.Builder
	if err := config.WriteTOML(&all, config.Default().Values()); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", all.String(), "[identity]\nowners = \"\"\n[exim]\nmainlog = \"\"\n[limits.domain.\"x.example\"]\nhourly = 5\n"} {
		if err := checkServed(parseConfig(t, text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}
