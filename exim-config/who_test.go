package eximconfig_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sluice/sidecar/admin"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/senders"
)

// Who sends, by a real Exim and the real sidecar:
//
//	news@here.example ─→ AUTH ──────────────────┐
//	alice's script ─→ sendmail, in her home ────┼─→ Exim ─→ sluice ─→ sluice who
//	a stranger ─→ forward@here.example ─────────┘

// senders are "DOMAIN KEY PROOF TRIED/SENT" of all whom a scope has.
func (h *host) senders(t testing.TB, scope string) (all []string) {
	t.Helper()
	var w senders.Who
	// Where nobody has sent yet, there is an error and no report.
	_ = h.ask(t, func(ctx context.Context, c *admin.Client) (err error) {
		w, err = c.WhoSends(ctx, scope, 20)
		return err
	})
	for _, r := range w.Domains {
		for _, a := range r.Authors {
			all = append(all, fmt.Sprintf("%s %s %s %d/%d", r.Domain, a.Key, a.Proof, a.Tried, a.Sent))
		}
	}
	return all
}

func TestWhoSends(t *testing.T) {
	t.Parallel()
	h := newForwardingHost(t)
	h.startExim(t)
	c := h.dial(t).Login("news@here.example")
	c.Want(c.Send("news@here.example", hosttest.Letter("x"), "a1@far.example", "a2@far.example"), 250)
	if out, code := h.sendmail(t, alice, "public_html/wp", hosttest.Letter("x"), "-oi", "-f", "shop@here.example", "b1@far.example"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	c.Mail("news@here.example") // the hour is used up
	c.Want(c.Rcpt("a3@far.example"), 450)
	c.Want(c.Rcpt("a3@far.example"), 450)
	stranger := h.dialFrom(t, "192.0.2.9")
	stranger.Want(stranger.Send("who@else.example", hosttest.Letter("x"), "forward@here.example"), 250)

	script := "here.example script:/run/home/alice/public_html/wp claimed 1/1"
	want := []string{"here.example news@here.example proven 3/2", script, "forward:here.example forward:forward@here.example proven 1/1"}
	var got []string
	defer func() {
		if t.Failed() {
			t.Logf("%q, want %q", got, want)
		}
	}()
	hosttest.Eventually(t, "all three are named", func() bool {
		got = h.senders(t, "here.example")
		return slices.Equal(got, want)
	})
	if got := h.senders(t, "account:alice"); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		t.Errorf("alice's: %q", got)
	}
	for _, scope := range []string{"script:/run/home/alice", "script:/run/home/alice/public_html/wp"} {
		if got := h.senders(t, scope); !slices.Equal(got, []string{script}) {
			t.Errorf("%s: %q", scope, got)
		}
	}
	if top := h.status(t, "here.example").Authors; len(top) != 2 || top[0].Key != "news@here.example" {
		t.Errorf("status: %+v", top)
	}
	out := h.run(t, h.sluice(t, "who", "here.example")...)
	for _, part := range []string{"here.example: 3 of 3 in the last hour (100%), 1 refused", "news@here.example", "claimed  this host"} {
		if !strings.Contains(out, part) {
			t.Errorf("%q is not in:\n%s", part, out)
		}
	}
}
