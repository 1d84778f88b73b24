package main

import (
	"bytes"
	"encoding/base64"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// Why there is no answer: what can be the reason is said, and nothing else.
func TestWhyCheckHasNoAnswer(t *testing.T) {
	dir := t.TempDir()
	serve := func(name string, answer func(net.Conn)) {
		l, err := net.Listen("unix", dir+"/"+name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				answer(c)
				c.Close()
			}
		}()
	}
	serve("hangs-up", func(c net.Conn) { c.Read(make([]byte, 1024)) })
	serve("refuses", func(net.Conn) {})
	stuck, err := net.Listen("unix", dir+"/silent") // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	question := base64.StdEncoding.EncodeToString([]byte("stage=rcpt\n\n"))
	typed := []string{"--stage", "rcpt", "--recipient", "x@y.example"}
	const malformed, user = "is the question malformed?", "May this user ask?"
	for _, c := range []struct {
		socket, timeout string
		args            []string
		want            string
	}{
		{"none", "20s", typed, "Is `sluice serve` running, and with the same --config?\n"},
		{"hangs-up", "20s", typed, user},
		{"hangs-up", "20s", []string{"--base64", question}, malformed},
		{"refuses", "20s", typed, user},
		{"silent", "200ms", typed, "it hangs, is very busy, or has less time than it needs (--timeout)."},
	} {
		var out bytes.Buffer
		args := append([]string{"check", "--socket", dir + "/" + c.socket, "--timeout", c.timeout}, c.args...)
		code := run(t.Context(), args, strings.NewReader(""), &out, &out)
		for _, reason := range []string{malformed, user, "Is `sluice serve` running", "it hangs"} {
			if says := strings.Contains(out.String(), reason); says != strings.Contains(c.want, reason) || code != exitError {
				t.Errorf("%s %v: exit %d, want %q:\n%s", c.socket, c.args, code, c.want, &out)
			}
		}
	}
}

// A relative path means another file to whoever reads it elsewhere.
func TestARelativeConfigIsNamedInFull(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	writeFile(t, "s.toml", "[limits]\nhourly = 20\n")
	var out bytes.Buffer
	if run(t.Context(), []string{"config", "--config", "s.toml"}, nil, &out, &out) != exitDone || !strings.Contains(out.String(), "# "+dir+"/s.toml:2") {
		t.Errorf("%s", &out)
	}
}
