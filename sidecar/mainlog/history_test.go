package mainlog_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/logline"
	"sluice/sidecar/mainlog"
)

// Lines of refusals and of programs that were run, as Exim 4.96 wrote them.
func TestRefusalsAndRuns(t *testing.T) {
	text := "Domain send51.test has exceeded the max emails per hour (21/20 (105%)) allowed.  Message will be reattempted later [20 sent in an hour]"
	for line, want := range map[string]logline.Entry{
		"[26323] H=(client.test) [127.0.0.1]:41119 F=<s@x18.test> temporarily rejected RCPT <u@far.test>: " + text: {
			Kind: logline.Refused, Process: "26323", Arrival: logline.Arrival{Sender: "s@x18.test", ClientAddress: "127.0.0.1"}, Attempt: logline.Attempt{Recipient: "u@far.test", Text: text}},
		"H=pc.test (pc) [2001:db8::1] X=TLS1.3:AES:256 CV=no SNI=x F=<a@b.test> A=plain:bob@b.test rejected RCPT <\"o o\"@far.test>: " + text: {
			Kind: logline.Refused, Arrival: logline.Arrival{Sender: "a@b.test", Auth: "bob@b.test", ClientAddress: "2001:db8::1"}, Attempt: logline.Attempt{Recipient: "\"o o\"@far.test", Text: text}},
		"H=(pc) [192.0.2.1] F=<\"x rejected RCPT <v@victim.test>: no\"@b.test> A=login:b@b.test temporarily rejected RCPT <u@far.test>: " + text: {
			Kind: logline.Refused, Arrival: logline.Arrival{Sender: "\"x rejected RCPT <v@victim.test>: no\"@b.test", Auth: "b@b.test", ClientAddress: "192.0.2.1"}, Attempt: logline.Attempt{Recipient: "u@far.test", Text: text}},
		"U=alpha F=<b@alpha.test> rejected RCPT <u@ok4.sink>": {
			Kind: logline.Refused, Arrival: logline.Arrival{Sender: "b@alpha.test", Login: "alpha"}, Attempt: logline.Attempt{Recipient: "u@ok4.sink"}},
		"1xUzRH-0005E4-0q H=(client.test) [127.0.0.1] F=<s@send51.test> A=plain:s temporarily rejected after DATA: " + text: {
			Kind: logline.Refused, ID: "1xUzRH-0005E4-0q", Arrival: logline.Arrival{Sender: "s@send51.test", Auth: "s", ClientAddress: "127.0.0.1"}, Attempt: logline.Attempt{Text: text}},
		"1xUzRT-0005Iu-0E U=alpha F=<alpha@host.test> rejected by non-SMTP ACL: " + text: {
			Kind: logline.Refused, ID: "1xUzRT-0005Iu-0E", Arrival: logline.Arrival{Sender: "alpha@host.test", Login: "alpha"}, Attempt: logline.Attempt{Text: text}},
		"[25890] cwd=/home/alpha/public html 4 args: /usr/sbin/sendmail -t -i -fnews@alpha.test": {
			Kind: logline.Ran, Process: "25890", Arrival: logline.Arrival{Directory: "/home/alpha/public html"}},
		"1xUzc7-0006ja-2I <= news@alpha.test U=alpha P=local S=500 T=\"for me@x.test\" for a@far.test b@far.test": {
			Kind: logline.Arrived, ID: "1xUzc7-0006ja-2I", Arrival: logline.Arrival{Sender: "news@alpha.test", Login: "alpha", Recipients: "a@far.test b@far.test"}},
		"1xUzc7-0006ja-2I <= news@alpha.test U=alpha P=local S=500 T=\"a gift for me@x.test\"": {
			Kind: logline.Arrived, ID: "1xUzc7-0006ja-2I", Arrival: logline.Arrival{Sender: "news@alpha.test", Login: "alpha"}},
		"cwd=/home/bob 5 args: sendmail -F \"Bob -bt Smith\" -bs -oi": {
			Kind: logline.Ran, Arrival: logline.Arrival{Directory: "/home/bob"}},
		"cwd=/home/bob 4 args: sendmail -i -- -bt@far.test": {
			Kind: logline.Ran, Arrival: logline.Arrival{Directory: "/home/bob"}},
		"cwd=/home/bob 2 args: exim \"\"": {
			Kind: logline.Ran, Arrival: logline.Arrival{Directory: "/home/bob"}},
		"cwd=/root 1 args: /usr/bin/mailq":                                                {},
		"cwd=/root 1 args: /usr/sbin/runq":                                                {},
		"cwd=/root 1 args: newaliases":                                                    {},
		"cwd=/root 3 args: exim -bt bob@far.test":                                         {},
		"cwd=/root 2 args: /usr/sbin/exim4 -bV":                                           {},
		"cwd=/root 3 args: exim -be $primary_hostname":                                    {},
		"cwd=/root 4 args: exim -bh 192.0.2.1 -v":                                         {},
		"cwd=/root 3 args: exim -Rff far.test":                                            {},
		"cwd=/root 3 args: exim -v -bp":                                                   {},
		"cwd=/srv/spool 3 args: /usr/sbin/exim4 -Mc 1xUzc7-0006ja-2I":                     {},
		"cwd=/ 3 args: exim -bd -q20m":                                                    {},
		"H=(pc) [192.0.2.1] rejected MAIL <s@x.test>: no":                                 {},
		"H=(pc) [192.0.2.1] F=<s@x.test> rejected connection in \"connect\" ACL":          {},
		"SMTP call from (pc) [192.0.2.1] dropped: too many nonmail commands, rejected it": {},
	} {
		parser := mainlog.NewParser(time.UTC)
		line = "2026-11-22 04:55:53 " + line
		got, ok := parse(parser, time.Time{}, line)
		if ok != (want.Kind != 0) {
			t.Errorf("%s\nis an entry: %v", line, ok)
			continue
		}
		if !ok {
			continue
		}
		want.At, want.Line = time.Date(2026, 11, 22, 4, 55, 53, 0, time.UTC), line
		if got != want {
			t.Errorf("%s\n-want +got:\n%s", line, cmp.Diff(want, got))
		}
	}
}

// ids are the last characters of the ids of lines.
type ids []string

func (i *ids) Prepare(entries []logline.Entry) func(context.Context) [][]logline.Entry {
	return func(context.Context) [][]logline.Entry {
		for _, e := range entries {
			*i = append(*i, e.ID[len(e.ID)-1:])
		}
		return [][]logline.Entry{entries}
	}
}

// Files are read in the order in which they were written, packed ones too, each
// once, whatever copies of it there are; the last line may have no end.
func TestHistoryIsReadInTheOrderOfTime(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if strings.HasSuffix(name, ".gz") {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			z.Write([]byte(text))
			z.Close()
			text = b.String()
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	completed := func(day, n string) string { return "2026-11-" + day + " 01:00:00 1xUzSN-0005dd-0" + n + " Completed\n" }
	names := []string{
		write("mainlog", "2026-11-23 00:00:00 exim 4.96 daemon started\n"+completed("23", "4")+strings.TrimSuffix(completed("24", "5"), "\n")),
		write("mainlog.2.gz", completed("20", "1")+completed("21", "2")),
		write("mainlog.1", completed("22", "3")),
		write("mainlog.empty", ""),
		write("mainlog.2", completed("20", "1")+completed("21", "2")),
		write("copy", "2026-11-23 00:00:00 exim 4.96 daemon started\n"+completed("23", "4")),
		write("mainlog.1.gz", completed("22", "3")),
	}
	h, err := mainlog.OpenHistory(append(names, names[0]), time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	var got ids
	if err := h.Read(context.Background(), &got, func() {}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ids{"1", "2", "3", "4", "5"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if h.Progress() != h.Size {
		t.Errorf("%d of %d bytes are read", h.Progress(), h.Size)
	}
}

// A compressed file by another name is no log: the error says what to do.
func TestACompressedFileWithoutItsEnding(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mainlog")
	if err := os.WriteFile(path, []byte("\x1f\x8b\x08\x00whatever\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := mainlog.OpenHistory([]string{path}, time.UTC)
	if err == nil || !strings.Contains(err.Error(), "it is compressed: give its name the ending .gz") {
		t.Error(err)
	}
}
