package policyd_test

import (
	"testing"

	"go.uber.org/goleak"

	"sluice/sidecar/policyd/policytest"
)

func TestMain(m *testing.M) {
	policytest.Main()
	goleak.VerifyTestMain(m)
}
