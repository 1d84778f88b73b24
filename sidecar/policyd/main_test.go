package policyd_test

import (
	"testing"

	"go.uber.org/goleak"

	"sluice/sidecar/hosttest"
	"sluice/sidecar/policyd/policytest"
)

func TestMain(m *testing.M) {
	policytest.Main()
	hosttest.Shuffle()
	goleak.VerifyTestMain(m)
}
