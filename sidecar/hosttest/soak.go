package hosttest

import (
	"flag"
	"os"
	"syscall"
	"testing"
	"time"
)

// Soak reports whether make soak runs this: long runs, whole matrices, and everything that
// is timed.
func Soak() bool { return os.Getenv("SLUICE_SOAK") != "" }

// NotLonger fails a test of the soak if something has taken longer than it may on a fast
// machine. Without the soak it only logs that, because the machine may be slow or busy.
func NotLonger(t testing.TB, what string, took, most time.Duration) {
	t.Helper()
	if took <= most {
		return
	}
	if d := Deadline(most); Soak() && took > d {
		t.Errorf("%s: took %v, want at most %v: %s", what, took, d, Missed(d))
		return
	}
	t.Logf("%s: took %v; the soak wants at most %v", what, took, most)
}

// UsualModes, called by TestMain, has files get the modes that tests make them with: many a server
// has a umask for root of 077.
func UsualModes() { syscall.Umask(0o022) }

// Shuffle, called by TestMain, runs the tests in another order each time, as go test
// -shuffle=on does; but with that flag go test never caches a result.
func Shuffle() {
	if f := flag.Lookup("test.shuffle"); f != nil && f.Value.String() == f.DefValue {
		f.Value.Set("on")
	}
}
