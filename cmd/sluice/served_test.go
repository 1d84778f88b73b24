package main

import (
	"bytes"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar"
)

func parseConfig(t *testing.T, text string) *sidecar.Config {
	t.Helper()
	c, err := sidecar.ParseConfig("s.toml", text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWhatIsNotServedYetIsRefusedByName(t *testing.T) {
	err := served(parseConfig(t, `
[listen]
policy = ["unix:/run/p.sock", "tcp:127.0.0.1:9993"]
milter = ["tcp:127.0.0.1:9994"]
http = "127.0.0.1:9995"
[store]
url = "redis://127.0.0.1"
outage = "closed"
nodes = 2
[exim]
mainlog = "/var/log/exim/main.log"
[identity]
owners = "/etc/owners"
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
	want := []string{
		"s.toml:4 listen.milter", "s.toml:5 listen.http", "s.toml:7 store.url", "s.toml:8 store.outage",
		"s.toml:9 store.nodes", "s.toml:11 exim.mainlog", "s.toml:13 identity.owners", "s.toml:3 listen.policy",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// The built-in values, written out or left empty, ask for nothing.
func TestDefaultsAreServed(t *testing.T) {
	var all strings.Builder
	if err := sidecar.WriteTOML(&all, sidecar.DefaultConfig().Values()); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", all.String(), "[identity]\nowners = \"\"\n[exim]\nmainlog = \"\"\n[limits.domain.\"x.example\"]\nhourly = 5\n"} {
		if err := served(parseConfig(t, text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestWhatHasNoEffectYet(t *testing.T) {
	got := idle(parseConfig(t, "[limits]\nhourly = 5\ndeferfail_min = 9\n[limits.account.\"bob\"]\ndeferfail_percent = 50\n"))
	want := []string{"limits.deferfail_min", "limits.account.bob.deferfail_percent"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestEximSaysWhichUserMayAsk(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.Atoi(me.Uid)
	if err != nil {
		t.Fatal(err)
	}
	for _, said := range []string{me.Username, me.Uid} {
		exim := filepath.Join(t.TempDir(), "exim")
		script := "#!/bin/sh\n[ \"$1 $2\" = '-bP exim_user' ] && echo 'exim_user = " + said + "'\n"
		if err := os.WriteFile(exim, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		if got, ok := eximUser(t.Context(), exim); !ok || got != uid {
			t.Errorf("Exim says %q: uid %d, %v", said, got, ok)
		}
	}
}

func TestWithoutEximsUserItSaysWhatThatMeans(t *testing.T) {
	if _, ok := eximUser(t.Context(), "/nonexistent"); ok {
		t.Skip("this machine has a user that Exim's packages use")
	}
	var log bytes.Buffer
	mailUIDs(t.Context(), "/nonexistent", slog.New(slog.NewTextHandler(&log, nil)))
	if !strings.Contains(log.String(), "set exim.binary") {
		t.Errorf("log: %s", log.String())
	}
}
