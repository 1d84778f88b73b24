package hosttest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A PHP is a php-fpm with opcache as Debian ships it, whose program has a tenant's uid. It runs
// in a process namespace of its own, which ends as a whole: php-fpm's children outlive it.
//
//	client -> FastCGI -> php-fpm -> script in the tenant's home
type PHP struct {
	t      testing.TB
	socket string
}

// StartPHP starts it, until the end of the test.
func StartPHP(t testing.TB, tenant int) *PHP {
	t.Helper()
	programs, _ := filepath.Glob("/usr/sbin/php-fpm*")
	if len(programs) == 0 {
		Missing(t, "there is no php-fpm (.ci/deps installs it)")
	}
	dir := t.TempDir()
	f := &PHP{t, filepath.Join(dir, "php.sock")}
	config := filepath.Join(dir, "fpm.conf")
	text := fmt.Sprintf("[global]\nerror_log = %s/log\ndaemonize = no\n[www]\nuser = %d\ngroup = %d\nlisten = %s\npm = static\npm.max_children = 1\n",
		dir, tenant, tenant, f.socket)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("unshare", "--pid", "--fork", "--kill-child", programs[0], "--fpm-config", config)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	end := Guard(t, c.Process)
	t.Cleanup(func() { end(); c.Wait() })
	Eventually(t, "php-fpm listens", func() bool {
		conn, err := net.Dial("unix", f.socket)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return f
}

// Run has PHP run a script, and returns what it has printed (FastCGI 1.0, section 3.3).
func (f *PHP) Run(script string) string {
	f.t.Helper()
	conn, err := net.Dial("unix", f.socket)
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close()
	var params bytes.Buffer
	for _, p := range [][2]string{{"SCRIPT_FILENAME", script}, {"REQUEST_METHOD", "GET"}} {
		for _, s := range p {
			binary.Write(&params, binary.BigEndian, uint32(len(s))|1<<31)
		}
		params.WriteString(p[0] + p[1])
	}
	for _, record := range []struct {
		kind byte
		body []byte
	}{{1, []byte{0, 1, 0, 0, 0, 0, 0, 0}}, {4, params.Bytes()}, {4, nil}, {5, nil}} { // begin as responder, params, their end, no input
		n := len(record.body)
		conn.Write(append([]byte{1, record.kind, 0, 1, byte(n >> 8), byte(n), 0, 0}, record.body...))
	}
	var out strings.Builder
	for {
		var head [8]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			f.t.Fatalf("php-fpm's answer: %v after %q", err, out.String())
		}
		body := make([]byte, int(binary.BigEndian.Uint16(head[4:6]))+int(head[6]))
		if _, err := io.ReadFull(conn, body); err != nil {
			f.t.Fatal(err)
		}
		switch head[1] {
		case 3: // end
			return out.String()
		case 6: // output
			out.Write(body[:len(body)-int(head[6])])
		}
	}
}
