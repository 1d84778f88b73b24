package ratelimit_test

import (
	"context"
	"flag"
	"os"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/ratelimit/storetest"
	"sluice/sidecar/hosttest"
)

// bare gives a Ledger the shape of a store that can fail.
type bare struct{ *ratelimit.Ledger }

func (b bare) Take(_ context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error) {
	return b.Ledger.Take(now, t), nil
}

func (b bare) Look(_ context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error) {
	return b.Ledger.Look(now, t), nil
}

func (b bare) Settle(_ context.Context, now time.Time, reports []ratelimit.Report) error {
	b.Ledger.Settle(now, reports)
	return nil
}

func (b bare) Uncharge(_ context.Context, now time.Time, tokens []ratelimit.Token) error {
	b.Ledger.Uncharge(now, tokens)
	return nil
}

func (b bare) Reset(_ context.Context, now time.Time, subject string, seen int64) (int64, error) {
	return b.Ledger.Reset(now, subject, seen), nil
}

func TestMain(m *testing.M) {
	checks := "2000"
	if hosttest.Soak() {
		checks = "1000000"
	}
	flag.Set("rapid.checks", checks) // the command line may say otherwise
	hosttest.Shuffle()
	flag.Parse()
	os.Exit(m.Run())
}

func TestLedgerAgainstAnExactLog(t *testing.T) {
	storetest.Property(t, func() storetest.Store { return bare{ratelimit.NewLedger(ratelimit.Options{})} })
}

func TestLedgerAtItsCeiling(t *testing.T) {
	storetest.Ceiling(t, func(o ratelimit.Options) storetest.Store { return bare{ratelimit.NewLedger(o)} })
}

func TestLedgerWithholds(t *testing.T) {
	storetest.Withheld(t, func() storetest.Store { return bare{ratelimit.NewLedger(ratelimit.Options{})} })
}
