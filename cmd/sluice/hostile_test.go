package main

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/alecthomas/kong"

	"sluice/sidecar/action"
	"sluice/sidecar/config"
	"sluice/sidecar/remedy"
)

// hostile are what senders, tenants and remote servers can put into names and replies. Each is
// shown escaped, wherever it stands, and none makes a line of its own.
var hostile = []string{
	"x\u009b31m\u202egpj\x1b[2J\nFORGED\u2066.example", // commands to the terminal, and another order
	"a\x7f\x00\r\u200b\u200d\u2060\ufeff.example",      // DEL, NUL, a line start, and what has no width
	"\u0301\u0301e\u0301\u0301\u0301\u0301\u0301\u0301\ufe0f\u3164\u115f\u00ad\U000e0041.example",
	"\xff\xfe\xe2\x80\u2028FORGED\u2029\u0085\u00a0.example", // no UTF-8, and other line ends
}

// raw are the characters of hostile that may be shown by no command.
const raw = "\u009b\u202e\x1b\u2066\x7f\x00\r\u200b\u200d\u2060\ufeff\ufe0f\u3164\u115f\u00ad\U000e0041\ufffd\u2028\u2029\u0085\u00a0"

// S-07: no command shows a name of a sender raw, nor anything of its own arguments.
func TestCommandsShowNothingRaw(t *testing.T) {
	t.Parallel()
	for n, text := range hostile {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			t.Parallel()
			forms := [][]string{nil, {"--json"}}[:max(1, 2-n)] // JSON escapes all alike
			dir := t.TempDir()
			serveStage(t, dir, hostileStage(text))
			writeFile(t, dir+"/sluice.toml", fmt.Sprintf("[listen]\npolicy = [%q]\nadmin = %q\n", "unix:"+dir+"/policy.sock", "unix:"+dir+"/admin.sock"))
			inLine := strings.ReplaceAll(text, "\n", "")
			writeFile(t, dir+"/log", "2026-11-28 10:00:00 1xAAAA-00000000001-0001 <= a@"+inLine+" H=(pc) [192.0.2.10]:4000 P=esmtpsa A=login:"+
				inLine+" S=1 for x@far.example y@far.example\n")
			hostileActions(t, dir, text)
			for _, args := range printing(text, dir) {
				for _, more := range forms {
					argv := append(slices.Concat(args, more), "--actions", dir+"/actions")
					if !slices.Contains(args, "--config") {
						argv = append(argv, "--config", dir+"/sluice.toml")
					}
					var out, log bytes.Buffer
					run(t.Context(), argv, strings.NewReader(""), &out, &log)
					s := out.String() + log.String()
					if strings.ContainsAny(s, raw) || !utf8.ValidString(s) || s == "" {
						t.Errorf("sluice %q printed %q", argv, s)
					}
					if strings.Contains("\n"+out.String(), "\nFORGED") {
						t.Errorf("sluice %q let a name write a line of its own: %q", argv, &out)
					}
				}
			}
		})
	}
}

// hostileActions records actions with a text wherever somebody may choose one.
func hostileActions(t *testing.T, dir, text string) {
	t.Helper()
	record := hostRecord(t, dir)
	for range 2 {
		a := action.Action{At: noon, By: text, Verb: remedy.VerbStop, Whom: text, Incident: text, Why: text}
		n, err := record.Will(a, remedy.Stopped{Scope: text, Mark: text})
		if err = errors.Join(err, record.Did(noon, n, remedy.Stopped{Scope: text, Mark: text, File: text}, errors.New(text))); err != nil {
			t.Fatal(err)
		}
	}
}

// printing are command lines of all commands that print, which have a text of others in their
// arguments, or get it from whom they ask.
func printing(text, dir string) [][]string {
	return [][]string{
		{"status"}, {"status", "hostile.example"}, {"status", "account:hostile"}, {"status", text},
		{"who"}, {"who", text}, {"who", "--by", "network"}, {"who", "--by", "subject"}, {"who", "--by", "destination"}, {"who", "--log", dir + "/log"},
		{"queue"}, {"queue", "--list"}, {"queue", text, "--list"}, {"events"}, {"events", text}, {"incident"}, {"incident", text}, {"incident", text, "--html"}, {"incident", text, "--for", "customer"}, {"incident", "--month"},
		{"history"}, {"history", "--export"}, {"explain", text}, {"explain", "hostile.example"},
		{"set", "hostile.example", "hourly=3"}, {"set", text, "hourly=3"}, {"set", "a.example", text}, {"unset", "hostile.example"}, {"rollback", "3"},
		{"lock", text}, {"unlock", text}, {"unlock", "hostile.example"}, {"reset", text}, {"stop", text}, {"stop", "news@hostile.example", "--why", text}, {"start", text},
		{"log", text, "--log", dir + "/log"}, {"log", "a@" + text, "--log", dir + "/log"}, {"learn", text}, {"learn", dir + "/log"},
		{"config"}, {"config", "--running"}, {"config", "--config", "/" + text},
		{"check", "--stage", text}, {"check", "--stage", "rcpt", "--auth", "news@example.com", "--recipient", text},
		{"simulate", dir + "/log", "--set", "default", "hourly=1"}, {"simulate", text}, {"alert", "test"}, {"alert", "test", text},
		{"script", "disable", text}, {"script", "enable", text}, {"script", "scan", text},
		{"queue", "show", text}, {"queue", "quarantine", text, "--dry-run"}, {"queue", "restore", text, "--dry-run"}, {"queue", "remove", text, "--dry-run"},
		{"queue", "flush", text, "--dry-run"}, {"queue", "freeze", text, "--dry-run"}, {"queue", "thaw", text, "--dry-run"},
		{"login", "state", text}, {"login", "suspend", text}, {"login", "resume", text}, {"login", "password", text}, {"login", "kick", text},
		{"expect", text}, {"expect", "news@hostile.example", "5", "--why", text}, {"man", text},
		{"exim", "install", text}, {"exim", "remove", text}, {"exim", "show", text},
		{"clean", text}, {"clean", "42", "--dry-run"}, {"clean", text + "@example.com", "--dry-run"}, {"clean", "script:/" + text, "--dry-run"},
		{"actions"}, {"actions", text}, {"undo", text}, {"undo", "1"}, {"undo", "mx1:1"}, {"undo", "2"},
		{"doctor", text}, {"deliver", text}, {"notify", text}, {"serve", text},
		{"--" + text}, {text}, {"version", text}, {"version", "--running"},
	}
}

// A command that is new is in the test of hostile texts too.
func TestEveryCommandIsTriedWithHostileTexts(t *testing.T) {
	var cmd commands
	parser, err := kong.New(&cmd, kong.Name("sluice"), kong.Vars{"config": config.DefaultPath, "actions": "/x"})
	if err != nil {
		t.Fatal(err)
	}
	tried := map[string]bool{}
	for _, args := range printing("x", "/x") {
		tried[args[0]] = true
		tried[strings.Join(args[:min(2, len(args))], " ")] = true
	}
	for _, command := range parser.Model.Leaves(false) {
		if !tried[strings.TrimPrefix(command.FullPath(), "sluice ")] {
			t.Errorf("no hostile text is given to %s", command.FullPath())
		}
	}
}

// hostileStage has a text wherever senders and operators choose one.
func hostileStage(text string) stage {
	s := stages["busy"]
	for _, answer := range []any{&s.status, &s.filled, &s.who, &s.queue, &s.past, &s.incidents} {
		full(reflect.ValueOf(answer).Elem(), text)
	}
	s.status.Now, s.queue.Now, s.who.Now = noon, noon, noon
	named := s.status.Domains[0]
	named.Domain = "hostile.example"
	s.status.Domains = append(s.status.Domains, named)
	scope := s.status.Scopes[0]
	scope.Scope = "account:hostile"
	s.status.Scopes = append(s.status.Scopes, scope)
	return s
}
