package script

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

	"sluice/sidecar/hosttest"
)

// A pool is a php-fpm with opcache as Debian ships it, whose program has a tenant's uid.
//
//	client -> FastCGI -> php-fpm -> script in the tenant's home
type pool struct {
	t      *testing.T
	socket string
}

func newPool(t *testing.T, p *place) *pool {
	programs, _ := filepath.Glob("/usr/sbin/php-fpm*")
	if len(programs) == 0 {
		hosttest.Missing(t, "there is no php-fpm (.ci/deps installs it)")
	}
	dir := t.TempDir()
	f := &pool{t, filepath.Join(dir, "php.sock")}
	config := filepath.Join(dir, "fpm.conf")
	text := fmt.Sprintf("[global]\nerror_log = %s/log\ndaemonize = no\n[www]\nuser = %d\ngroup = %d\nlisten = %s\npm = static\npm.max_children = 1\n",
		dir, tenant, tenant, f.socket)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(programs[0], "--fpm-config", config)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Signal(os.Interrupt); c.Wait() })
	hosttest.Eventually(t, "php-fpm does not listen", func() bool {
		conn, err := net.Dial("unix", f.socket)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return f
}

// run has PHP run a script, and returns what it has printed (FastCGI 1.0, section 3.3).
func (f *pool) run(script string) string {
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

// Without a permission to read it PHP goes on running what it has compiled, until the time of
// the last change makes it look.
func TestPHPStopsRunningTheScript(t *testing.T) {
	p := newPlace(t)
	php := newPool(t, p)
	path := p.write(p.path("public_html/mailer.php"), tenant, `<?php echo opcache_is_script_cached(__FILE__) ? "sends from the cache" : "sends";`)
	hosttest.EventuallyOr(t, func() string { return "PHP does not cache the script: " + php.run(path) },
		func() bool { return strings.Contains(php.run(path), "sends from the cache") })

	was := p.disable(path)
	t.Logf("it waits for PHP to look again, within %v", ReadOpcache(os.DirFS("/")).Within)
	hosttest.Eventually(t, "PHP still runs the script", func() bool { return !strings.Contains(php.run(path), "sends") })
	if err := Enable(was); err != nil {
		t.Fatal(err)
	}
	hosttest.EventuallyOr(t, func() string { return "PHP does not run it again: " + php.run(path) },
		func() bool { return strings.Contains(php.run(path), "sends") })
}
