package engine_test

import (
	"context"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/reconcile"
)

// resets is a new owner of state, which only wants to know of resets.
type resets struct {
	mu   sync.Mutex
	seen []sidecar.Reset
}

func (o *resets) Reset(_ context.Context, _ time.Time, r sidecar.Reset) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen = append(o.seen, r)
	return nil
}

// has reports whether a domain was reset to an epoch, here or elsewhere.
func (o *resets) has(r sidecar.Reset) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Contains(o.seen, r)
}

// An owner that registers itself once learns of every reset: by the rm of a lock file, by
// unlock, by reset, and by another node's.
func TestANewOwnerIsToldOfEveryReset(t *testing.T) {
	t.Parallel() // it waits
	ctx, domain := context.Background(), "a.example"
	for name, reset := range map[string]func(s *site) error{
		"rm":     func(s *site) error { return os.Remove(s.lockPath(aLock)) },
		"unlock": func(s *site) error { return s.Unlock(ctx, s.now, domain, "root") },
		"reset":  func(s *site) error { return s.Operator.Reset(ctx, s.now, domain, "root") },
		"another node's": func(s *site) error { // the shared store tells of a new epoch, and that the domain has changed
			_, err := s.store.Reset(ctx, s.now, domain, -1)
			s.Changed(domain)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := sharing(t, &awayBoard{values: map[string][]byte{}})
			s.now = time.Now() // as Run has it
			o := &resets{}
			s.AddOwner(reconcile.Owner{Reset: o.Reset})
			s.run()
			s.send(20)
			s.eventually("the lock", func() bool { return s.content(aLock) != "" })
			s.eventually("the file is watched", func() bool {
				return len(s.locks.Files(domain)) == 1
			})
			epoch := s.store.Standing(s.now, domain).Epoch
			if err := reset(s); err != nil {
				t.Fatal(err)
			}
			s.eventually("the owner is told", func() bool {
				now := s.store.Standing(s.now, domain).Epoch
				return now > epoch && o.has(sidecar.Reset{Subject: domain, Epoch: now, Elsewhere: name == "another node's"})
			})
			s.eventually("the lock is gone", func() bool { return s.content(aLock) == "" })
		})
	}
}

// quarantine is a new kind of Blocker.
type quarantine struct{ domain string }

func (b quarantine) Block(_ time.Time, _ sidecar.Author, who sidecar.Payer) (sidecar.Block, bool) {
	return sidecar.Block{SMTP: sidecar.Reject, Local: sidecar.Reject, By: "quarantine",
		Text: func(sidecar.Action) sidecar.RefusalText {
			return sidecar.RefusalText{Text: "Domain " + who.Domain + " is in quarantine"}
		}}, who.Domain == b.domain
}

// A new kind of Blocker in the list blocks at each stage in which a message may still be
// refused, and at the router, where it was accepted, holds it.
func TestANewKindOfBlockerBlocksAtEachStage(t *testing.T) {
	s := newSite(t, limit20)
	s.AddBlocker(quarantine{"a.example"})
	const text = "Domain a.example is in quarantine"
	s.want(s.rcpt("u@far.example", 0), sidecar.Reject, text)
	s.want(s.send(1), sidecar.Reject, text)
	local := sidecar.Request{Stage: sidecar.StageLocal, ID: messageID(s.now), Submitter: sidecar.Submitter{Login: "bob"}, Sender: "bob@a.example", Recipients: "u@far.example"}
	ask := func(r sidecar.Request) sidecar.Reply { return s.Ask(context.Background(), s.now, r) }
	s.want(ask(local), sidecar.Reject, text)
	route := local
	route.Stage, route.Recipient = sidecar.StageRoute, local.Recipients
	s.want(ask(route), sidecar.Defer, text)
	s.held("a.example", 1)
	s.sent("a.example", 0)

	local.Sender, route.Sender = "bob@b.example", "bob@b.example"
	s.want(ask(local), sidecar.Accept, "")
	s.want(ask(route), sidecar.Accept, "")
}
