package postfixlog_test

import (
	"testing"

	"sluice/sidecar/hosttest"
)

func TestMain(m *testing.M) {
	hosttest.Shuffle()
	m.Run()
}
