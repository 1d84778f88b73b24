package exim

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/sidecar/event"
)

// A start goes on with what Exim said before it, and asks it only where nothing whole is kept of that.
func TestAStartKnowsWhatEximHasSaid(t *testing.T) {
	answers := Exim{Binary: fakeExim(t, `case "$2" in config) echo 'domainlist local_domains = @' ;; *) echo mx.example ;; esac`)}
	silent := Exim{Binary: fakeExim(t, "exit 1")}
	for _, c := range []struct {
		name, kept string
		exim       Exim
		want       string
	}{
		{"nothing is kept", "", answers, "mx.example"},
		{"half of it is kept", `{"local_domains": {"items": ["kept.exa`, answers, "mx.example"},
		{"it is kept", `{"local_domains": {"items": ["kept.example"]}}`, answers, "kept.example"},
		{"it is kept, and Exim says nothing", `{"local_domains": {"items": ["kept.example"]}}`, silent, "kept.example"},
		{"Exim says nothing", "", silent, ""},
		{"there is no Exim", "", Exim{Binary: "/nonexistent/exim"}, ""},
	} {
		file := filepath.Join(t.TempDir(), "lists")
		if c.kept != "" {
			if err := os.WriteFile(file, []byte(c.kept), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		items := ""
		if lists := OpenLastLists(t.Context(), c.exim, file).Last(); lists != nil {
			items = strings.Join(lists.LocalDomains.Items, " ")
		}
		if items != c.want {
			t.Errorf("%s: %q, want %q", c.name, items, c.want)
		}
	}
}

// What Exim says otherwise than before is told once, and kept for the next start.
func TestEximSaysSomethingElse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lists")
	if err := os.WriteFile(file, []byte(`{"local_domains": {"items": ["kept.example"]}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	said := OpenLastLists(t.Context(), Exim{Binary: fakeExim(t, `case "$2" in config) echo 'domainlist local_domains = @' ;; *) echo mx.example ;; esac`)}, file)
	var told []event.Kind
	events := event.Func(func(e event.Event) { told = append(told, e.Kind) })
	changes := 0
	for range 2 {
		if err := said.ask(t.Context(), events, func() { changes++ }); err != nil {
			t.Fatal(err)
		}
		if changes != 1 || len(told) != 1 || told[0] != event.EximListsRead {
			t.Errorf("%d changes, told %v", changes, told)
		}
	}
	again := OpenLastLists(context.Background(), Exim{Binary: "/nonexistent/exim"}, file)
	if lists := again.Last(); lists == nil || strings.Join(lists.LocalDomains.Items, " ") != "mx.example" {
		t.Errorf("at the next start there is %+v", lists)
	}
}

// That Exim does not answer is told when it begins and once an hour, and not each time it is asked.
func TestEximDoesNotAnswer(t *testing.T) {
	var said LastLists
	told := 0
	events := event.Func(func(event.Event) { told++ })
	now, silent := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), errors.New("killed")
	for _, c := range []struct {
		asks int // one each listsAgain
		err  error
		want int
	}{{1, silent, 1}, {359, silent, 1}, {1, silent, 2}, {1, nil, 2}, {2, silent, 3}} {
		for range c.asks {
			said.report(now, events, c.err)
			now = now.Add(listsRetryAfter)
		}
		if told != c.want {
			t.Errorf("at %s told %d times, want %d", now.Format(time.TimeOnly), told, c.want)
		}
	}
}
