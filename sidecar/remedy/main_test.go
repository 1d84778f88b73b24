package remedy

import (
	"testing"

	"go.uber.org/goleak"

	"sluice/sidecar/hosttest"
)

func TestMain(m *testing.M) {
	hosttest.Shuffle()
	goleak.VerifyTestMain(m)
}
