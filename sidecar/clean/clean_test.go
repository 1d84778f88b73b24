package clean

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar"
)

// A step is a Step of a test.
type step struct {
	name string
	plan Plan
	bad  error // of Plan
	fail error // of Do
	did  *[]string
}

func (s step) Name() string                             { return s.name }
func (s step) Plan(context.Context, Case) (Plan, error) { return s.plan, s.bad }
func (s step) Do(context.Context, Case, Plan) (Done, error) {
	*s.did = append(*s.did, s.name)
	return Done{}, s.fail
}

var busy = Plan{Lines: []Line{{Text: "something"}}}

// run plans steps and does them, and returns which were done and which were told to have failed.
func run(ctx context.Context, t *testing.T, steps []step, only ...string) (did, failed []string) {
	t.Helper()
	var all []Step
	for _, s := range steps {
		s.did = &did
		all = append(all, s)
	}
	plans, err := Make(ctx, Case{}, all, only)
	if err != nil {
		t.Fatal(err)
	}
	Run(ctx, Case{}, plans, func(*Planned) bool { return true }, func(p *Planned, _ Done, err error) {
		if err != nil {
			failed = append(failed, p.Name())
		}
	})
	return did, failed
}

func TestStepsAreDoneInTheirOrder(t *testing.T) {
	steps := []step{{name: Release, plan: busy}, {name: Queue, plan: busy}, {name: Stop, plan: busy}, {name: Login}}
	did, failed := run(t.Context(), t, steps)
	if diff := cmp.Diff([]string{Stop, Queue, Release}, did); diff != "" || failed != nil {
		t.Errorf("failed %v, done %s", failed, diff)
	}
	if did, _ = run(t.Context(), t, steps, Queue); !cmp.Equal(did, []string{Queue}) {
		t.Errorf("only the queue: %v", did)
	}
	if _, err := Make(t.Context(), Case{}, nil, []string{"reboot"}); err == nil || !strings.Contains(err.Error(), "no step") {
		t.Errorf("a step that there is not: %v", err)
	}
}

func TestAFailedStepKeepsOnlyTheReleaseBack(t *testing.T) {
	for name, bad := range map[string]step{
		"when it is planned": {name: Login, bad: errors.New("no adapter")},
		"when it is done":    {name: Login, plan: busy, fail: errors.New("timeout")},
	} {
		did, failed := run(t.Context(), t, []step{{name: Stop, plan: busy}, bad, {name: Queue, plan: busy}, {name: Release, plan: busy}})
		if did[len(did)-1] != Queue || !cmp.Equal(failed, []string{Login, Release}) {
			t.Errorf("%s: did %v, failed %v", name, did, failed)
		}
	}
}

func TestNothingBeginsAfterTheOperatorHasBrokenOff(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var did []string
	plans, err := Make(ctx, Case{}, []Step{step{name: Stop, plan: busy, did: &did}, step{name: Queue, plan: busy, did: &did}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	Run(ctx, Case{}, plans, func(*Planned) bool { return true }, func(*Planned, Done, error) { cancel() })
	if !cmp.Equal(did, []string{Stop}) {
		t.Errorf("did %v", did)
	}
}

func TestEnterIsYesOnlyIfAllIsCertainAndCanBeTakenBack(t *testing.T) {
	proven := Case{Author: sidecar.Author{Proof: sidecar.Proven}}
	for name, x := range map[string]struct {
		c    Case
		p    Planned
		sure bool
	}{
		"proven, and can be undone": {proven, Planned{Plan: busy}, true},
		"only claimed":              {Case{Author: sidecar.Author{Proof: sidecar.Claimed}}, Planned{Plan: busy}, false},
		"cannot be undone":          {proven, Planned{Plan: Plan{Lines: busy.Lines, Final: true}}, false},
		"not planned":               {proven, Planned{Err: errors.New("no adapter")}, false},
	} {
		if got := Sure(x.c, []Planned{{Plan: busy}, x.p}); got != x.sure {
			t.Errorf("%s: %v", name, got)
		}
	}
}
