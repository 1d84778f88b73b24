package remedy

import (
	"context"
	"errors"
	"testing"
	"time"

	"sluice/sidecar/config"
)

// A purge that waits for another command ends when nobody waits for it any more, and has removed
// nothing.
func TestAPurgeDoesNotWaitForEver(t *testing.T) {
	h := host(t)
	h.Config = func() (*config.Config, error) { return config.Parse("sluice.toml", "[queue]\npurge_days = 1\n") }
	h.Queue = func(context.Context, func() map[string]int) (*Queue, error) { return &Queue{Host: h}, nil }
	end, err := h.AloneAtQueue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	ctx, cancel := context.WithCancel(t.Context())
	h.Say = func(string) { cancel() } // that it waits
	if n, err := h.Purge(ctx, time.Now()); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("removed %d, %v", n, err)
	}
	if all, err := h.Actions(); err != nil || len(all) > 0 {
		t.Errorf("on record is %+v, %v", all, err)
	}
}
