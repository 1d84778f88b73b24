package hosttest

import (
	"flag"
	"os"
	"testing"
	"time"
)

// Soak tells whether make soak runs this: the long runs, the whole of each matrix, and
// whatever is timed.
func Soak() bool { return os.Getenv("SLUICE_SOAK") != "" }

// NotLonger fails a test of the soak where something has taken longer than it may on a
// fast machine. Everywhere else it only logs that: a slow or busy machine is no fault.
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

// Shuffle, called by TestMain before the tests run, has them run in another order each
// time, as go test -shuffle=on does; of that, however, go test never keeps a result.
func Shuffle() {
	if f := flag.Lookup("test.shuffle"); f != nil && f.Value.String() == f.DefValue {
		f.Value.Set("on")
	}
}
