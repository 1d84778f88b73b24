package main

import (
	"errors"
	"os"
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
)

// Somebody empties the directory of the sockets, or puts something else there: they are made
// again, and both commands and questions are answered.
func TestRemovedSocketsAreMadeAgain(t *testing.T) {
	t.Parallel()
	n := startServe(t, t.TempDir())
	for round := range 2 {
		for _, name := range []string{"/run/policy.sock", "/run/admin.sock"} {
			if err := os.Remove(n.dir + name); err != nil {
				t.Fatal(err)
			}
		}
		hosttest.EventuallyOr(t, n.log.String, func() bool { return strings.Count(n.log.String(), "is made again") == 2*(round+1) })
		if !n.send(t, round) {
			t.Error("refused")
		}
		if out, code := n.sluice(t, "status"); code != exitDone {
			t.Errorf("status: exit %d: %s", code, out)
		}
	}
	policy := n.dir + "/run/policy.sock"
	if err := errors.Join(os.Remove(policy), os.WriteFile(policy, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	hosttest.EventuallyOr(t, n.log.String, func() bool { return strings.Contains(n.log.String(), "it exists and is no socket") })
	if err := os.Remove(policy); err != nil {
		t.Fatal(err)
	}
	hosttest.EventuallyOr(t, n.log.String, func() bool { return strings.Count(n.log.String(), "is made again") == 5 })
	if code := n.stop(); code != exitDone || strings.Count(n.log.String(), "cannot be made again") != 1 {
		t.Errorf("exit %d:\n%s", code, n.log)
	}
}
