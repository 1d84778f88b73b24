package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/event"
	"sluice/sidecar/hosttest"
)

// An entry of the journal: its fields.
type entry map[string]string

// readEntry takes a datagram of the journal's native protocol apart
// (systemd.io/JOURNAL_NATIVE_PROTOCOL).
func readEntry(t *testing.T, b []byte) entry {
	t.Helper()
	e := entry{}
	for len(b) > 0 {
		line, rest, _ := bytes.Cut(b, []byte("\n"))
		name, value, plain := strings.Cut(string(line), "=")
		if !plain {
			size := binary.LittleEndian.Uint64(rest)
			value, rest = string(rest[8:8+size]), rest[8+size+1:]
		}
		if _, twice := e[name]; twice {
			t.Errorf("%s is there twice", name)
		}
		e[name], b = value, rest
	}
	return e
}

// A journalSocket stands in for the journal's.
type journalSocket struct{ *net.UnixConn }

func listenJournal(t *testing.T, path string) journalSocket {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return journalSocket{c}
}

// await is the next entry of an event.
func (j journalSocket) await(t *testing.T, k event.Kind) entry {
	t.Helper()
	j.SetReadDeadline(time.Now().Add(hosttest.Patience()))
	b := make([]byte, 1<<16)
	for {
		n, err := j.Read(b)
		if err != nil {
			t.Fatalf("wait for %s: %v", k, err)
		}
		if e := readEntry(t, b[:n]); e["SLUICE_EVENT"] == string(k) {
			return e
		}
	}
}

// Under systemd each event is an entry of the journal with its priority and fields:
//
//	sluice serve ─ native protocol ─→ the journal's socket
//	             ─ <priority>line ──→ stderr, when there is none
func TestServeLogsToTheJournal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	socket := filepath.Join(dir, "journal")
	binary := filepath.Join(dir, "sluice")
	build := exec.Command("go", "build", "-trimpath", "-o", binary,
		"-ldflags", "-X github.com/coreos/go-systemd/v22/journal.journalSocket="+socket, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as built does
	out, err := build.CombinedOutput()
	if err != nil {
		t.Fatalf("build sluice: %v\n%s", err, out)
	}
	systemd := listenJournal(t, socket)
	stderr, stream := journalFile(t, dir)
	writeFile(t, dir+"/sluice.toml", serveConfig(dir))
	serve := exec.Command(binary, "serve", "--config", dir+"/sluice.toml")
	serve.Stderr, serve.Env = stderr, append(os.Environ(), stream)
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	end := hosttest.Guard(t, serve.Process)
	t.Cleanup(func() { end(); serve.Wait() })

	serving := systemd.await(t, event.Serving)
	if serving["PRIORITY"] != "6" || !strings.HasPrefix(serving["MESSAGE"], "serving node=") || strings.Contains(serving["MESSAGE"], "time=") {
		t.Errorf("%q", serving)
	}
	n := servedNode{dir: dir}
	n.sluice(t, "lock", "a.example")
	command := systemd.await(t, event.Command)
	delete(command, "SLUICE_WHO")
	who, _, _ := strings.Cut(strings.TrimPrefix(command["MESSAGE"], "command who="), " ")
	want := entry{"PRIORITY": "6", "MESSAGE": "command who=" + who + " command=lock scope=a.example", "SYSLOG_IDENTIFIER": "sluice",
		"SLUICE_EVENT": "command", "SLUICE_COMMAND": "lock", "SLUICE_SCOPE": "a.example"}
	if diff := cmp.Diff(want, command); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if err := os.Remove(n.file("max_hourly_a.example")); err != nil {
		t.Fatal(err)
	}
	if e := systemd.await(t, event.LockRemoved); e["SLUICE_DOMAIN"] != "a.example" {
		t.Errorf("%q", e)
	}
	writeFile(t, dir+"/sluice.toml", "[limits]\nhourly = -1\nwindow = \"no\"\n") // two errors, a line each
	serve.Process.Signal(syscall.SIGHUP)
	if e := systemd.await(t, event.ConfigRefused); e["PRIORITY"] != "3" || !strings.Contains(e["SLUICE_ERROR"], "\n") || strings.Contains(e["MESSAGE"], "\n") {
		t.Errorf("%q", e)
	}
	if said := readFile(t, stderr.Name()); said != "" {
		t.Errorf("on stderr:\n%s", said)
	}

	systemd.Close()
	os.Remove(socket)
	serve.Process.Signal(syscall.SIGTERM)
	if err := serve.Wait(); err != nil {
		t.Error(err)
	}
	if said := readFile(t, stderr.Name()); !strings.HasPrefix(said, "<6>stopping: no more questions, those in flight are answered\n<6>") {
		t.Errorf("without the socket:\n%s", said)
	}
}

// journalFile is a stderr, and the JOURNAL_STREAM with which systemd would say that
// it is connected to the journal.
func journalFile(t *testing.T, dir string) (*os.File, string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return f, fmt.Sprintf("JOURNAL_STREAM=%d:%d", st.Dev, st.Ino)
}

// A start that fails is an error of the journal's too; but not in the terminal of
// somebody who has inherited JOURNAL_STREAM.
func TestWhyItFailsIsAnErrorOfTheJournal(t *testing.T) {
	t.Parallel()
	binary := buildSluice(t)
	for name, c := range map[string]struct {
		stream func(ours string) string
		want   string
	}{
		"the journal's":    {func(ours string) string { return ours }, "<3>sluice: "},
		"somebody else's":  {func(string) string { return "JOURNAL_STREAM=1:2" }, "sluice: "},
		"not to be read":   {func(string) string { return "JOURNAL_STREAM=x" }, "sluice: "},
		"without a stream": {func(string) string { return "JOURNAL_STREAM=" }, "sluice: "},
	} {
		stderr, stream := journalFile(t, t.TempDir())
		cmd := exec.Command(binary, "serve", "--config", "/nonexistent/sluice.toml")
		cmd.Stderr, cmd.Env = stderr, append(os.Environ(), c.stream(stream))
		if err := cmd.Run(); err == nil {
			t.Errorf("%s: it serves", name)
		}
		said := readFile(t, stderr.Name())
		for line := range strings.Lines(said) {
			if marked := strings.HasPrefix(line, "<3>"); marked != strings.HasPrefix(c.want, "<3>") {
				t.Errorf("%s: %q", name, line)
			}
		}
		if !strings.HasPrefix(said, c.want) {
			t.Errorf("%s: %q", name, said)
		}
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
