package hosttest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A test process that is killed leaves neither php-fpm nor a child of it behind.
func TestPHPEndsWithItsTest(t *testing.T) {
	Root(t)
	const tenant = 54321
	if os.Getenv("TEST_IS_KILLED") != "" {
		dir := OpenDir(t)
		if err := os.WriteFile(dir+"/a.php", []byte("runs"), 0o644); err != nil {
			t.Fatal(err)
		}
		php := StartPHP(t, tenant)
		fmt.Println(php.Run(dir+"/a.php"), "at", php.socket)
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	c := exec.Command("/proc/self/exe", "-test.run=^TestPHPEndsWithItsTest$", "-test.v")
	c.Env = append(os.Environ(), "TEST_IS_KILLED=yes", "TMPDIR="+OpenDir(t))
	out, _ := c.Output()
	_, socket, ran := strings.Cut(string(out), "runs at ")
	switch {
	case strings.Contains(string(out), "--- SKIP"):
		t.Skip("there is no php-fpm")
	case !ran:
		t.Fatalf("PHP has not run: %s", out)
	}
	config := filepath.Dir(strings.TrimSpace(socket)) // which is in the command of php-fpm, and in the title of its children
	EventuallyOr(t, func() string { return fmt.Sprint("php-fpm goes on: ", phpProcesses(tenant, config)) },
		func() bool { return len(phpProcesses(tenant, config)) == 0 })
}

// phpProcesses are those with a uid, or with a text in their command.
func phpProcesses(uid uint32, text string) (all []string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		command, err := os.ReadFile(dir + "/cmdline")
		info, statErr := os.Stat(dir)
		if err != nil || statErr != nil || len(command) == 0 {
			continue
		}
		if info.Sys().(*syscall.Stat_t).Uid == uid || strings.Contains(string(command), text) {
			all = append(all, dir+" "+strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
	return all
}
