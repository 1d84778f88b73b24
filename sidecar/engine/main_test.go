package engine_test

import (
	"testing"
	"time"

	"sluice/sidecar/hosttest"
)

func TestMain(m *testing.M) {
	time.Local = time.UTC // the texts show times
	hosttest.Shuffle()
	m.Run()
}
