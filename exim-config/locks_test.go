package eximconfig_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/sidecar/hosttest"
)

// Lock files, with the real sidecar:
//
//	sluice ─→ email_send_limits/max_hourly_DOMAIN ←─ exists ─ Exim, where sluice is silent
//	   ↑             └─ rm, touch: the operator's hand
//	   └─ release

// use up a domain's limit of one.
func (h *host) exhaust(t *testing.T, domain string) *hosttest.Client {
	t.Helper()
	c := h.dial(t).Login("news@" + domain)
	c.Want(c.Send("news@"+domain, hosttest.Letter("x"), "first@far.example"), 250)
	return c
}

// tries says what a domain's next remote recipient is told.
func (h *host) tries(t *testing.T, domain string) hosttest.Reply {
	t.Helper()
	c := h.dial(t).Login("news@" + domain)
	c.Mail("news@" + domain)
	return c.Rcpt("next@far.example")
}

func (h *host) hasLock(name string) bool { return h.read(lockDir+"/"+name) != "" }

func TestLockAppearsAndSpeaks(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	p := h.startSluice(t, "[limits]\nhourly = 20")
	h.startExim(t)
	c := h.dial(t).Login("news@shop.example")
	c.Want(c.Send("news@shop.example", hosttest.Letter("x"), numbered("r%d@far.example", 1, 20)...), 250)
	hosttest.Eventually(t, "the lock file is there", func() bool { return h.hasLock("max_hourly_shop.example") })
	if got := strings.TrimSpace(h.read(lockDir + "/max_hourly_shop.example")); got != "20/20 (100%)" {
		t.Errorf("the lock file says %q", got)
	}
	silent := func() {
		t.Helper()
		c.Want(h.tries(t, "shop.example"), 450, fmt.Sprintf(lockedText, "shop.example"))
		c.Want(h.tries(t, "free.example"), 250)
	}
	patient := h.port
	h.asShipped(t)
	h.startExim(t)
	p.signal(t, "STOP")
	silent()
	p.stop(t, "KILL")
	silent()
	h.port = patient
	h.startSluice(t, "[limits]\nhourly = 20")
	wantRefused(t, h.tries(t, "shop.example"), 450, hourlyText("shop.example", 21, 20, laterText))
	removed := time.Now()
	h.unlock(t, "max_hourly_shop.example")
	hosttest.Eventually(t, "the next mail passes", func() bool { return h.tries(t, "shop.example").Code == 250 })
	hosttest.NotLonger(t, "the release", time.Since(removed), time.Second)
}

// When the window frees, Sluice's own lock goes and a hand's stays.
func TestHandMadeLockStays(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startSluice(t, fmt.Sprintf("[limits]\nwindow = %q\nhourly = 1\ndefer_cutoff = 1000", shortWindow()))
	h.startExim(t)
	h.run(t, "touch", lockDir+"/max_hourly_hand.example")
	c := h.exhaust(t, "own.example")
	wantRefused(t, h.tries(t, "own.example"), 450, hourlyText("own.example", 2, 1, laterText))
	hosttest.Eventually(t, "the lock made by hand holds", func() bool { return h.tries(t, "hand.example").Code == 450 })
	c.Want(h.tries(t, "hand.example"), 450, fmt.Sprintf(lockedText, "hand.example"))
	hosttest.Eventually(t, "Sluice's own lock is there", func() bool { return h.hasLock("max_hourly_own.example") })
	hosttest.Eventually(t, "Sluice's own lock goes", func() bool { return !h.hasLock("max_hourly_own.example") })
	c.Want(h.tries(t, "own.example"), 250)
	c.Want(h.tries(t, "hand.example"), 450, fmt.Sprintf(lockedText, "hand.example"))
	h.unlock(t, "max_hourly_hand.example")
	hosttest.Eventually(t, "a hand removes it", func() bool { return h.tries(t, "hand.example").Code == 250 })
}

// A directory that is gone, or is another one, is no hand.
func TestLostLockDirectoryReleasesNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.run(t, "mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", lockDir)
	h.startSluice(t, "[limits]\nhourly = 1\ndefer_cutoff = 1000")
	h.startExim(t)
	domains := []string{"one.example", "two.example"}
	for _, d := range domains {
		h.exhaust(t, d)
	}
	locked := func() bool {
		for _, d := range domains {
			if out, _ := h.try(t, "cat", lockDir+"/max_hourly_"+d); strings.TrimSpace(out) != "1/1 (100%)" {
				return false
			}
		}
		return true
	}
	hosttest.Eventually(t, "they are locked", locked)
	for _, lose := range []string{
		"umount " + lockDir,
		"mv " + lockDir + " " + lockDir + ".old && mkdir " + lockDir,
		"rm -r " + lockDir,
	} {
		h.run(t, "sh", "-c", lose)
		hosttest.Eventually(t, "they are locked again after "+lose, locked)
		for _, d := range domains {
			if r := h.tries(t, d); r.Code != 450 {
				t.Errorf("after %s: %s is told %v", lose, d, r)
			}
		}
	}
	h.run(t, "sh", "-c", "rm "+lockDir+"/* || [ -d "+lockDir+"/stopped ]") // rm leaves the directory of the stopped, and says so
	for _, d := range domains {
		hosttest.Eventually(t, "rm * releases "+d, func() bool { return h.tries(t, d).Code == 250 })
	}
}
