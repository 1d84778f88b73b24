package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/sidecar"
	"sluice/sidecar/config"
	"sluice/sidecar/event"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/script"
)

// watched is a script.Watch of the scripts of a home, and what it has told since the last call of
// told. It asks a sluice deliver, as under systemd.
func (h *tenantHome) watched() (w *script.Watch, told func() []string) {
	helper := h.dir + "/run/deliver.sock"
	l, err := net.Listen("unix", helper)
	if err != nil {
		h.t.Fatal(err)
	}
	served := make(chan struct{})
	h.t.Cleanup(func() { l.Close(); <-served })
	go func() {
		defer close(served)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			run(context.Background(), []string{"deliver", "--config", h.dir + "/sluice.toml", "--actions", h.dir + "/actions"}, c, c, &bytes.Buffer{})
			c.Close()
		}
	}()
	h.stop() // and its node is opened here
	c, err := config.Load(h.dir + "/sluice.toml")
	if err != nil {
		h.t.Fatal(err)
	}
	if h.node, err = openNode(h.t.Context(), c, slog.New(slog.DiscardHandler)); err != nil {
		h.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(h.t.Context()))
	var work errgroup.Group
	h.node.runStore(ctx, work.Go)
	h.t.Cleanup(func() { stop(); work.Wait(); h.node.close() })
	var events []string
	told = func() []string { defer func() { events = nil }(); return events }
	w = h.node.scripts
	w.Record = h.dir + "/actions"
	w.Events = event.Func(func(e event.Event) {
		events = append(events, fmt.Sprint(e.Kind, " ", e.Domain, " ", e.Attr("file"), " ", e.Err))
	})
	return w, told
}

// asks asks about a message of news@example.com.
func (h *tenantHome) asks(number int) {
	h.node.engine.Ask(h.t.Context(), time.Now(), sidecar.Request{Stage: sidecar.StageData, ID: fmt.Sprintf("1xUzSN-0005dd-%02d", number),
		Sender: "news@example.com", Recipients: fmt.Sprintf("r%d@far.example", number),
		Submitter: sidecar.Submitter{Auth: "news@example.com", ClientAddress: "192.0.2.1"}})
}

// script disable -> record <- serve -> sluice deliver -> record, file
func TestAScriptThatComesBackIsTold(t *testing.T) {
	t.Parallel()
	h := newTenantHome(t)
	path := h.file("x.php", "<?php mail();")
	w, told := h.watched()
	wants := func(what string, after time.Duration, want ...string) {
		t.Helper()
		w.Step(t.Context(), time.Now().Add(after))
		if got := told(); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s: told %q, want %q", what, got, want)
		}
	}
	wants("nothing was disabled", 0)
	h.wants(exitDone, "", "disable", path, "--author", "news@example.com", "--watch", "0", "--admin", h.dir+"/nobody")
	wants("it is disabled", 0)
	chmod := func(mode os.FileMode) {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	chmod(0o604)
	back := "came-back account:bob " + path + " its mode is 0604 again"
	wants("it is back at once", 0, back)
	wants("and still is", 0)
	chmod(0)
	wants("it is disabled again", 0)

	chmod(0o604)
	wants("it is back later, and nobody looks", time.Hour)
	h.asks(1)
	wants("its author tries", time.Hour, strings.Replace(back, "account:bob", "example.com", 1))
	wants("its author does not try", time.Hour)
	h.asks(2)
	wants("it was told already", time.Hour)
	chmod(0o644)
	h.asks(3)
	wants("it is back in another way", time.Hour, "came-back example.com "+path+" its mode is 0644 again")
	chmod(0)
	h.asks(4)
	wants("it is disabled again", time.Hour)
	chmod(0o604)
	h.asks(5)
	wants("after a week nobody looks", script.Watched+time.Hour)
	chmod(0)
	h.wants(exitDone, "", "enable", path)
	wants("it was taken back", 0)
}

func TestARecordThatCannotBeReadIsToldOnce(t *testing.T) {
	t.Parallel()
	h := newTenantHome(t)
	w, told := h.watched()
	if err := errors.Join(os.Mkdir(w.Record, 0o700), os.WriteFile(w.Record+"/actions", []byte("{}\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	w.Step(t.Context(), time.Now())
	w.Step(t.Context(), time.Now())
	if got := told(); len(got) != 1 || !strings.HasPrefix(got[0], "scripts-unwatched") || !strings.Contains(got[0], "altered") {
		t.Errorf("told %q", got)
	}
}

// Under the shipped units serve cannot see into homes, and sluice-deliver looks for it.
func (o *newcomer) disablesAScript(t *testing.T) {
	const file = "/home/tenant/x.php"
	o.run(t, "useradd -m tenant\ninstall -m 644 -o tenant /dev/null "+file)
	o.run(t, "sluice script disable "+file+" --watch 0")
	o.run(t, "chmod 600 "+file)
	var out string
	hosttest.EventuallyOr(t, func() string { return "the journal tells that it is back:\n" + out }, func() bool {
		out, _ = o.try(t, "journalctl -q SLUICE_EVENT=came-back")
		return strings.Contains(out, file) && strings.Contains(out, "its mode is 0600 again")
	})
	o.run(t, "chmod 0 "+file+"\nsluice script enable "+file+"\nuserdel -r tenant")
}

// Serve may say no more than the word: what follows it is nothing to the helper.
func TestServeOrdersNoFileToBeLookedAt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFile(t, dir+"/sluice.toml", serveConfig(dir))
	hosttest.Root(t)
	var out bytes.Buffer
	code := run(t.Context(), []string{"deliver", "--config", dir + "/sluice.toml", "--actions", dir + "/actions"}, strings.NewReader(script.WatchVerb+"/etc/shadow\n"), &out, &out)
	if code != exitDone || out.String() != "null\n" {
		t.Errorf("exit %d: %s", code, &out)
	}
}
