package script

import (
	"testing"

	"go.uber.org/goleak"

	"sluice/sidecar/hosttest"
)

func TestMain(m *testing.M) {
	hosttest.UsualModes()
	hosttest.Shuffle()
	goleak.VerifyTestMain(m)
}
