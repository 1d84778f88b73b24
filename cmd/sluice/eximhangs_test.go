package main

import (
	"os"
	"strings"
	"testing"
)

// An Exim that hangs while sluice starts, and has said nothing before, is waited for once, and not
// at each thing that it could be asked.
func TestAHangingEximIsWaitedForOnce(t *testing.T) {
	t.Parallel() // it waits
	dir := t.TempDir()
	hangs := dir + "/exim"
	writeFile(t, hangs, "#!/bin/sh\necho \"$*\" >>$0.asked\nexec sleep 1000\n")
	if err := os.Chmod(hangs, 0o755); err != nil {
		t.Fatal(err)
	}
	n := startServeWith(t, dir, strings.Replace(serveConfig(dir), "/nonexistent", hangs, 1))
	asked, err := os.ReadFile(hangs + ".asked")
	// One, another in the rest of the time, and one by who asks again once questions are answered.
	if n := strings.Count(string(asked), "\n"); err != nil || n < 1 || n > 3 {
		t.Errorf("before it served Exim was asked %d times: %v\n%s", n, err, asked)
	}
	if out, code := n.sluice(t, "check", "--stage", "rcpt", "--auth", "news@shop.example", "--recipient", "a@far.example"); code != 0 || !strings.Contains(out, "DUNNO") {
		t.Errorf("%d: %s", code, out)
	}
}
