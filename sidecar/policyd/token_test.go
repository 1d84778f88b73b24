package policyd

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/hosttest"
)

// yes is an Asker that accepts.
type yes struct{}

func (yes) Ask(context.Context, time.Time, sidecar.Request) sidecar.Reply {
	return sidecar.Reply{Room: 7}
}

func TestTCPAnswersOnlyWithAToken(t *testing.T) {
	var log bytes.Buffer
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	tokens := []string{"0123456789abcdef", "fedcba9876543210"}
	go func() {
		served <- New(yes{}, patient(Options{Tokens: tokens, Events: logTo(&log)})).Serve(ctx, ln)
	}()
	for line, want := range map[string]string{
		"token=0123456789abcdef\n":                          "action=DUNNO\nroom=7\n\n",
		"token=fedcba9876543210\n":                          "action=DUNNO\nroom=7\n\n",
		"encoding=base64\ntoken=MDEyMzQ1Njc4OWFiY2RlZg==\n": "action=DUNNO\nroom=7\n\n",
		"":                          "",
		"token=\n":                  "",
		"token=0123456789abcdee\n":  "",
		"token=0123456789abcdef0\n": "",
		"token=0123456789abcde\n":   "",
		"token=0123456789abcdeffedcba9876543210\n": "",
	} {
		nc, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		nc.SetDeadline(time.Now().Add(hosttest.Patience()))
		io.WriteString(nc, "request=sluice\nstage=rcpt\n"+line+"\n")
		nc.(*net.TCPConn).CloseWrite()
		if got, _ := io.ReadAll(nc); string(got) != want {
			t.Errorf("with %q answered %q, want %q", line, got, want)
		}
		nc.Close()
	}
	cancel()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "token missing or wrong") || strings.Contains(log.String(), tokens[0][:15]) {
		t.Errorf("the operator is told: %s", &log)
	}
}

// S-15: on TCP anybody on this host can connect, and is believed nothing, and stored no more
// than 4 kB of, before his token. That of version 2 comes first.
func TestNothingLongIsReadBeforeTheToken(t *testing.T) {
	const token = "0123456789abcdef"
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(run(t, New(yes{}, patient(Options{Tokens: []string{token}})), ln))
	long := "sender=" + strings.Repeat("x", 5000) + "\n"
	for question, want := range map[string]string{
		"request=sluice\nversion=2\ntoken=" + token + "\nnumber=7\nstage=rcpt\n" + long:  "action=DUNNO\nroom=7\nnumber=7\n\n",
		"request=sluice\nversion=2\nnumber=7\ntoken=" + token + "\nstage=rcpt\n":         "action=DUNNO\nroom=7\nnumber=7\n\n",
		"request=sluice\nversion=2\nnumber=7\ntoken=" + token + "\nstage=rcpt\n" + long:  "", // too late
		"request=sluice\nversion=2\ntoken=x" + token + "\nnumber=7\nstage=rcpt\n" + long: "",
		"request=sluice\nstage=rcpt\ntoken=" + token + "\n" + long:                       "",
		"request=sluice\nversion=2\ntoken=" + strings.Repeat("x", 5000):                  "",
	} {
		nc, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		nc.SetDeadline(time.Now().Add(hosttest.Patience()))
		io.WriteString(nc, question+"\n")
		if got, _ := io.ReadAll(io.LimitReader(nc, int64(max(len(want), 1)))); string(got) != want {
			t.Errorf("to %.100q answered %q, want %q", question, got, want)
		}
		nc.Close()
	}
}

func TestReadTokens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	for text, want := range map[string]string{
		"0123456789abcdef\nfedcba9876543210\n": "",
		"short\n":                              "fewer than 16 characters",
		"\n":                                   "has none",
	} {
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		tokens, err := ReadTokens(path)
		if want == "" && (err != nil || len(tokens) != 2) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %q, %v", text, tokens, err)
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadTokens(path); err == nil || !strings.Contains(err.Error(), "every user may read") {
		t.Errorf("%v", err)
	}
	if _, err := ReadTokens(path + ".none"); err == nil {
		t.Error("read a missing file")
	}
}
