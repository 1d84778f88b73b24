package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/sidecar/config"
	"sluice/sidecar/event"
	"sluice/sidecar/exim"
	"sluice/sidecar/hosttest"
)

// builtDir has what built has made, for TestMain to remove.
var builtDir string

// built is the binary as `make build` makes it, once for all tests.
var built = sync.OnceValues(func() (binary string, err error) {
	if builtDir, err = os.MkdirTemp("", "sluice-built-"); err != nil {
		return "", err
	}
	binary = filepath.Join(builtDir, "sluice")
	cmd := exec.Command("go", "build", "-trimpath", "-o", binary, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("build sluice: %w\n%s", err, out)
	}
	return binary, err
})

func buildSluice(t testing.TB) string {
	t.Helper()
	hosttest.NotShort(t)
	hosttest.Tree()
	binary, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// notifySocket is systemd's end of sd_notify.
func notifySocket(t *testing.T) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// The watchdog is pinged only while the policy socket answers.
func TestWatchdogIsNotPingedForASilentSocket(t *testing.T) {
	notified := notifySocket(t)
	t.Setenv("NOTIFY_SOCKET", notified.LocalAddr().String())
	t.Setenv("WATCHDOG_USEC", "200000")
	path := filepath.Join(t.TempDir(), "policy.sock")
	silent, err := net.Listen("unix", path) // accepts in the kernel, answers nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithCancel(t.Context())
	log := &hosttest.Log{}
	ended := make(chan error, 1)
	go func() {
		ended <- watch(ctx, config.Listener("unix:"+path), "", event.NewLog(textLog(log)))
	}()
	hosttest.Eventually(t, "the operator is told", func() bool { return strings.Contains(log.String(), "does not answer us") })
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	notified.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := notified.Read(make([]byte, 64)); err == nil {
		t.Fatalf("notified of %d bytes although nobody answers", n)
	}
}

// Where sluice is confined, another process runs Exim.
func TestDeliverByTheHelper(t *testing.T) {
	dir := t.TempDir()
	fake := filepath.Join(dir, "exim")
	writeFile(t, fake, "#!/bin/sh\necho \"$@\" >>"+dir+"/ran\n")
	if err := os.Chmod(fake, 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/sluice.toml", "[exim]\nbinary = "+strconv.Quote(fake)+"\n")
	helper, err := net.Listen("unix", dir+"/deliver.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer helper.Close()
	var served sync.WaitGroup
	served.Go(func() { // systemd, Accept=yes
		for {
			c, err := helper.Accept()
			if err != nil {
				return
			}
			run(t.Context(), []string{"deliver", "--config", dir + "/sluice.toml"}, c, c, io.Discard)
			c.Close()
		}
	})
	e := exim.Exim{Binary: "/nonexistent", Helper: dir + "/deliver.sock"}
	if err := e.Deliver(t.Context(), []string{"1xUzSN-0005dd-0q", "--help", "1sempe-00000001abC-0xYz"}); err != nil {
		t.Fatal(err)
	}
	ran, err := os.ReadFile(dir + "/ran")
	if err != nil || string(ran) != "-M 1xUzSN-0005dd-0q 1sempe-00000001abC-0xYz\n" {
		t.Fatalf("Exim was run with %q, %v", ran, err)
	}
	if err := os.Remove(fake); err != nil {
		t.Fatal(err)
	}
	if err := e.Deliver(t.Context(), []string{"1xUzSN-0005dd-0q"}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Fatalf("without Exim: %v", err)
	}
	helper.Close()
	served.Wait()
}

// systemd rates how well the units are confined, from 10 (not at all) to 0.
func TestUnitsAreConfined(t *testing.T) {
	for unit, most := range map[string]float64{"sluice.service": 2.5, "sluice-notify@.service": 2.5} {
		if exposure := exposureOf(t, unit); exposure >= most {
			t.Errorf("%s: exposure %v, want below %v", unit, exposure, most)
		}
	}
}

func exposureOf(t *testing.T, unit string) (exposure float64) {
	t.Helper()
	out, _ := exec.Command(hosttest.Program(t, "systemd-analyze"), "security", "--offline=true", "--no-pager", "--threshold=25", "systemd/"+unit).CombinedOutput()
	var last string
	for lines := bufio.NewScanner(strings.NewReader(string(out))); lines.Scan(); {
		if strings.TrimSpace(lines.Text()) != "" {
			last = lines.Text()
		}
	}
	_, rest, found := strings.Cut(last, ": ")
	if _, err := fmt.Sscan(rest, &exposure); !found || err != nil {
		t.Fatalf("systemd-analyze printed %q (%v)", last, err)
	}
	return exposure
}
