package main

import (
	"os"
	"strings"
	"testing"

	"sluice/sidecar/queue"
)

// On a host of Postfix or Sendmail the queue is neither shown nor changed, with sluice running or not:
// it is said, with what to use there. Stops work there.
func TestAQueueThatIsNotExims(t *testing.T) {
	t.Parallel()
	n := startServe(t, t.TempDir()) // whose exim.binary does not exist
	for _, tool := range []string{"postsuper -h or -d", "sendmail -qSSENDER -QREASON", "sluice stop works there too"} {
		if !strings.Contains(queue.NotExim, tool) {
			t.Errorf("%q does not name %s", queue.NotExim, tool)
		}
	}
	root := os.Geteuid() == 0
	commands := [][]string{{"queue"}, {"queue", hacked, "--json"}}
	if root {
		commands = append(commands, []string{"queue", "quarantine", hacked, "--yes"}, []string{"queue", "flush", hacked, "--yes"}, []string{"queue", "remove", hacked, "--yes"})
	}
	wanted := func() {
		t.Helper()
		for _, c := range commands {
			n.wantTyped(t, "", exitError, queue.NotExim, c...)
		}
	}
	wanted()
	if root {
		n.wantTyped(t, "", exitDone, "no queue of Exim was found", "clean", hacked, "--only", "queue", "--dry-run")
	}
	n.wantTyped(t, "", exitDone, "", "stop", hacked)
	n.stop()
	wanted()
	if _, err := os.Stat(n.dir + "/actions/actions"); root && err == nil {
		t.Error("something was done to a queue that is not there")
	}
}
