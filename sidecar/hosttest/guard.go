package hosttest

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// Guard has a process that a test has started end with the test's own, also where that
// panics or is killed, so that no cleanup is done. end ends both. The kernel's own means,
// PR_SET_PDEATHSIG, would kill it as soon as the thread ends that has started it.
func Guard(t testing.TB, p *os.Process) (end func()) {
	t.Helper()
	guard := exec.Command("/bin/sh", "-c", `read -r _; kill -9 "$1"`, "guard", fmt.Sprint(p.Pid))
	alive, err := guard.StdinPipe() // which only this process has, and the kernel closes
	if err == nil {
		err = guard.Start()
	}
	if err != nil {
		p.Kill()
		t.Fatalf("guard process %d: %v", p.Pid, err)
	}
	return func() {
		guard.Process.Kill() // first: the number of the process may soon be another one's
		guard.Wait()
		alive.Close()
		p.Kill()
	}
}
