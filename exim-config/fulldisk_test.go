package eximconfig_test

import (
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/logline"
)

// Where the disk of Exim's queue is full, what is moved stays whole where it was or is, each is in
// one place, the command says so, and does it when there is space again.
func TestQuarantineOnAFullDisk(t *testing.T) {
	t.Parallel()
	h := newBareHost(t)
	h.write(t, "/run/sluice.toml", fmt.Sprintf(sluiceConfig, "")+quarantineConfig)
	h.run(t, "sh", "-c", "mkdir -p /var/spool/exim4 && mount -t tmpfs -o size=64m,nr_inodes=2000,mode=750 tmpfs /var/spool/exim4 && chown Debian-exim:Debian-exim /var/spool/exim4")
	h.letters(t, "spam", 4)
	sums := func(queue string) map[string]string { // of the files in a queue, by name; the disk is seen on the host only
		all := map[string]string{}
		for line := range strings.Lines(h.run(t, "sh", "-c", "cd /var/spool/exim4/"+queue+"/input 2>/dev/null && sha256sum *-[HDJ] ?/*-[HDJ] 2>/dev/null; true")) {
			sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
			all[path.Base(name)] = sum
		}
		return all
	}
	before := sums("")
	if len(before) != 8 {
		t.Fatalf("in the queue are %v", before)
	}
	full := func() (free func()) { // no more names: a move makes some
		t.Helper()
		h.run(t, "sh", "-c", "mkdir /var/spool/exim4/filler; i=0; while (: >/var/spool/exim4/filler/$i) 2>/dev/null; do i=$((i+1)); done")
		return func() { h.run(t, "rm", "-r", "/var/spool/exim4/filler") }
	}
	whole := func(when string) {
		t.Helper()
		now := sums("")
		for name, text := range sums(logline.QuarantineQueue) {
			if _, twice := now[name]; twice {
				t.Errorf("%s: %s is in two queues", when, name)
			}
			now[name] = text
		}
		if diff := cmp.Diff(before, now); diff != "" {
			t.Errorf("%s: - before + now:\n%s", when, diff)
		}
	}
	free := full()
	out, code := h.try(t, h.sluice(t, "queue", "quarantine", "--sender", "spam", "--yes", "--follow", "1s")...)
	if code != 1 || !strings.Contains(out, "are as they were") {
		t.Errorf("quarantine: exit %d\n%s", code, out)
	}
	whole("quarantine")
	free()
	a := h.queueAct(t, 0, "quarantine", "--sender", "spam")
	if len(a.Done) != 4 {
		t.Errorf("with space: %+v", a)
	}
	free = full()
	if out := h.undoQueue(t, 2, a.Action); !strings.Contains(out, "are as they were") {
		t.Errorf("undo: %s", out)
	}
	whole("undo")
	free()
	h.undoQueue(t, 0, a.Action)
	if diff := cmp.Diff(before, sums("")); diff != "" {
		t.Errorf("undo with space: - before + after:\n%s", diff)
	}
}
