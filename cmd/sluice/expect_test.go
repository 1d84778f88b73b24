package main

import (
	"fmt"
	"strings"
	"testing"

	"sluice/sidecar/alert"
	"sluice/sidecar/hosttest"
)

// What is expected is three times of what is sent now, or what the operator says: of an author, or of
// whoever an incident is about. It is shown wherever settings are, and taken back like them.
func TestExpect(t *testing.T) {
	t.Parallel()
	dir, told := t.TempDir(), newTold(t)
	n := startServeWith(t, dir, strings.Replace(serveConfig(dir), "alert.to = []", fmt.Sprintf("alert.to = [{webhook = %q, tell_actions = true}]", told.hook.URL), 1))
	says := func(want string, code int, args ...string) {
		t.Helper()
		if out, got := n.sluice(t, args...); got != code || !strings.Contains(out, want) {
			t.Errorf("sluice %s exits with %d: %s", strings.Join(args, " "), got, out)
		}
	}
	says("say how many an hour are fine, like sluice expect news@example.com 1000", 1, "expect", "News@Example.com")
	if n.sendAll(t, 1, 21) == 0 {
		t.Fatal("nothing is accepted")
	}
	says("news@example.com: expected 0 -> ", 0, "expect", "news@example.com", "--why", "sale")
	told.await(t, "") // it is about no incident
	if n := told.of(""); n.State != alert.StateAction || !strings.Contains(n.Title, "expected 0 -> ") {
		t.Errorf("told of what the operator did: %+v", n)
	}
	says("expected up to ", 0, "who", "example.com")
	says("sale", 0, "history", "news@example.com")
	says("change 1, until ", 0, "explain", "news@example.com")
	hosttest.Eventually(t, "the used up limit is an incident with a culprit", func() bool {
		out, _ := n.sluice(t, "incident", "1")
		return strings.Contains(out, "WHO ")
	})
	says("news@example.com: expected ", 0, "expect", "1", "70")
	says("expected up to 70/h", 0, "who", "example.com")
	says("expected=", 0, "history", "--export")
	says("to take it back", 0, "rollback", "2")
	says("to take it back", 0, "unset", "news@example.com", "expected")
	says("script:/home/bob/shop: expected 0 -> 500", 0, "expect", "script:/home/bob/shop", "500", "--for", "24h")
	says("expected  script:/home/bob/shop  500", 0, "explain", "script:/home/bob/shop")
	says("there is no incident", 1, "expect", "99")
}
