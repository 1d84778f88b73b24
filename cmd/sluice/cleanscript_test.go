package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"sluice/sidecar"
	"sluice/sidecar/action"
	"sluice/sidecar/clean"
	"sluice/sidecar/remedy"
	"sluice/sidecar/script"
)

func TestCleanDisablesTheScriptThatItsHeaderNames(t *testing.T) {
	t.Parallel()
	h := newTenantHome(t)
	path := h.file("wp/mailer.php", "<?php mail();")
	h.file("wp/index.php", "<?php")
	plan := func(header string) (clean.Plan, error) {
		s := h.step(t, clean.Script, func(context.Context, string) string { return header })
		return s.Plan(t.Context(), clean.Case{Author: sidecar.Author{Key: "script:" + h.home + "/wp"}})
	}
	for header, want := range map[string]string{
		"":                          "does not say of which file",
		"$(reboot).php":             "does not say of which file",
		"1001:missing.php":          "no such file",
		"1001:index.php":            "--force",
		"1001:..":                   "does not say of which file",
		"1001:wp/../../mailer2.php": "no such file",
	} {
		if p, err := plan(header); err != nil || len(p.Lines) > 0 || !strings.Contains(p.Nothing, want) || !strings.Contains(p.Nothing, "sluice script disable "+h.home+"/wp lists") {
			t.Errorf("header %q: %+v, %v; want %q", header, p, err, want)
		}
	}
	p, err := plan("example.com/wp/mailer.php for 192.0.2.1")
	if err != nil || len(p.Lines) != 1 || p.Lines[0].Command != "sluice script disable "+path {
		t.Fatalf("%+v, %v", p, err)
	}
	c := clean.Case{Incident: "mx1-42", Author: sidecar.Author{Key: "script:" + h.home + "/wp"}, Number: 7}
	done, err := h.step(t, clean.Script, nil).Do(t.Context(), c, p)
	if err != nil || len(done.Actions) != 1 || !strings.Contains(done.Text, path+" is disabled; PHP notices within ") {
		t.Fatalf("%+v, %v", done, err)
	}
	h.hasMode(path, 0)
	a, _, err := hostRecord(t, h.dir).Find(done.Actions[0])
	var was script.File
	if err != nil || a.Read(&was) != nil || a.Part != 7 || a.Incident != "mx1-42" || was.Author != c.Author.Key {
		t.Errorf("recorded %+v with %+v, %v", a, was, err)
	}
	if p, err := plan("1001:mailer.php"); err != nil || len(p.Lines) > 0 || !strings.Contains(p.Nothing, "disabled already") {
		t.Errorf("again: %+v, %v", p, err)
	}
}

// step is a step of a clean on the host of the tenant.
func (h *tenantHome) step(t *testing.T, name string, header func(context.Context, string) string) clean.Step {
	all := clean.Steps(h.root(t).host(), clean.Options{Passwd: h.dir + "/passwd", Header: header})
	return all[slices.IndexFunc(all, func(s clean.Step) bool { return s.Name() == name })]
}

// What a clean has disabled stays so when the clean is taken back.
func TestUndoOfACleanLeavesFiles(t *testing.T) {
	t.Parallel()
	h := newTenantHome(t)
	path := h.file("wp/mailer.php", "<?php mail();")
	n, err := h.root(t).host().Act(action.Action{Verb: remedy.VerbClean, Whom: "script:" + h.home + "/wp"}, nil, func(number int) (any, error) {
		_, err := h.step(t, clean.Script, nil).Do(t.Context(), clean.Case{Number: number}, clean.Plan{Values: path})
		return nil, err
	})
	if err != nil {
		t.Fatal(err)
	}
	h.wantUndo(t, exitDone, "to take it back: sluice undo mx1.example:2", fmt.Sprint(n))
	h.hasMode(path, 0)
	h.wantUndo(t, exitDone, "has its mode 0644 again", "2")
	h.hasMode(path, 0o644)
}

func TestCleanOfWhoIsNoScript(t *testing.T) {
	t.Parallel()
	h := newTenantHome(t)
	for author, want := range map[string]string{
		hacked: "it logged in", "login:bob": "not known that a script", `script:/home/bob/\x0a`: "to the letter", "script:/home/bob/*": "to the letter",
		"script:relative": "to the letter", "script:" + h.home: "does not say",
	} {
		c := clean.Case{Author: sidecar.Author{Key: author}}
		if p, err := h.step(t, clean.Script, nil).Plan(t.Context(), c); err != nil || len(p.Lines) > 0 || !strings.Contains(p.Nothing, want) {
			t.Errorf("%s: %+v, %v; want %q", author, p, err, want)
		}
	}
}

func TestCleanScansTheDirectoryOfAScript(t *testing.T) {
	t.Parallel()
	h := newTenantHome(t)
	s := h.step(t, clean.Scan, nil)
	plan := func(author string) clean.Plan {
		p, err := s.Plan(t.Context(), clean.Case{Author: sidecar.Author{Key: author}})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := plan(hacked); p.Nothing != "it logged in" {
		t.Errorf("%+v", p)
	}
	if p := plan("script:/etc"); !strings.Contains(p.Nothing, "home of no account") {
		t.Errorf("%+v", p)
	}
	if p := plan("script:" + h.home + "/wp"); len(p.Lines) != 1 || p.Lines[0].Command != "sluice script scan "+h.home+"/wp" {
		t.Errorf("%+v", p)
	}
	if err := os.Remove(h.home + "/wp"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Do(t.Context(), clean.Case{}, clean.Plan{Values: h.home + "/wp"}); err == nil {
		t.Error("a directory that is gone was scanned")
	}
}
