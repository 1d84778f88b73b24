package eximconfig_test

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"

	"go.uber.org/goleak"

	"sluice/sidecar/hosttest"
)

// TestMain runs the tests, or, where a test starts this binary again inside
// new namespaces, a host's first process.
func TestMain(m *testing.M) {
	if dir := os.Getenv(hostDirEnv); dir != "" {
		os.Exit(hostInit(dir))
	}
	hosttest.UsualModes()
	hosttest.Shuffle()
	flag.Parse()
	if most := flag.Lookup("test.parallel"); most.Value.String() == fmt.Sprint(runtime.GOMAXPROCS(0)) {
		most.Value.Set(fmt.Sprint(2 * runtime.GOMAXPROCS(0))) // tests wait for Exim half of the time
	}
	runtime.LockOSThread() // the first thread never ends: no test is to enter a host on it
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(sharedDir())
		os.Exit(code)
	}))
}
