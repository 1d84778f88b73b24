package exim

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar"
)

// spoolFile is a -H file with these lines of options, tree and recipients.
func spoolFile(options, rest string) []byte {
	const header = "Subject: =?utf-8?q?none?=\n =?utf-8?q?_of_ours?=\n"
	return []byte("1xXtKk-000351-2c-H\nDebian-exim 100 101\n<a@b.example>\n1796014186 0\n" + options + rest + "\n" + fmt.Sprintf("%03d  %s", len(header), header))
}

// What Exim notes in its versions, as the router would ask about it.
func TestSpoolHeaders(t *testing.T) {
	const one = "XX\n1\nr@far.example\n"
	for name, c := range map[string]struct {
		options, rest string
		want          sidecar.Submitter
		socket        string
		left          []string
	}{
		"a client, 4.94": {"-helo_name x\n-host_address 192.0.2.7.4711\n-host_auth plain\n-auth_id news@shop.example\n-ident root\n", one,
			sidecar.Submitter{Auth: "news@shop.example", ClientAddress: "192.0.2.7"}, "", []string{"r@far.example"}},
		"tainted, 4.96": {"--host_address [2001:db8::7]:4711\n-host_auth plain\n--auth_id b\\303\\274cher.example\n", one,
			sidecar.Submitter{Auth: "bücher.example", ClientAddress: "2001:db8::7"}, "", []string{"r@far.example"}},
		"from a look-up, 4.97": {"-(dns)host_address [192.0.2.7]:4711\n-(mysql)auth_id x@y.example\n-host_auth login\n", one,
			sidecar.Submitter{Auth: "x@y.example", ClientAddress: "192.0.2.7"}, "", []string{"r@far.example"}},
		"not logged in": {"-host_address [192.0.2.7]:4711\n-aclc _sluice_socket 8\nuid:1000\n-aclm _sluice_socket 8\nloopback\n", one,
			sidecar.Submitter{ClientAddress: "192.0.2.7"}, "uid:1000", []string{"r@far.example"}},
		"a program": {"-ident bob\n-auth_id bob\n-local\n--aclm _sluice_cwd 11\n/home/bob\n\n\n-aclm _x 0\n\n", one,
			sidecar.Submitter{Login: "bob", UID: "100", CWD: "/home/bob\n\n"}, "", []string{"r@far.example"}},
		"some have it": {"-host_address [192.0.2.7]:25\n", "YN c@far.example\nNY a@far.example\nNN b@far.example\n5\na@far.example\nb@far.example errors@x 8,-1#1\nc@far.example\n\"d \\\"e\"@far.example o@x 3,0#3\nf@far.example\n",
			sidecar.Submitter{ClientAddress: "192.0.2.7"}, "", []string{`"d \"e"@far.example`, "f@far.example"}},
		"all have it": {"-host_address [192.0.2.7]:25\n", "NN r@far.example\n1\nr@far.example\n", sidecar.Submitter{ClientAddress: "192.0.2.7"}, "", nil},
	} {
		h, err := parseSpoolHeader(spoolFile(c.options+"-frozen 1796014200\n", c.rest))
		want := sidecar.Request{Sender: "a@b.example", Submitter: c.want, Subject: "none of ours", Connection: sidecar.Connection{Socket: c.socket}}
		if diff := cmp.Diff(want, h.Request); diff != "" || err != nil || !h.Frozen.Equal(time.Unix(1796014200, 0)) {
			t.Errorf("%s: frozen %v, %v; -want +got:\n%s", name, h.Frozen, err, diff)
		}
		if diff := cmp.Diff(c.left, h.Left); diff != "" {
			t.Errorf("%s: left, -want +got:\n%s", name, diff)
		}
	}
}

// Whatever a file has, it is read in bounds: what is left was in it.
func FuzzSpoolHeader(f *testing.F) {
	text, err := os.ReadFile("testdata/1xXtKk-000351-2c-H")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(spoolFile("-aclm _x 4294967295\n", "XX\n1\nr@x\n"))
	f.Add(spoolFile("-frozen 1\n", "YY a@b\nYY c@d\n"))
	f.Add(spoolFile("", "NN a@b\n2000000000\na@b\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		h, _ := parseSpoolHeader(text)
		for _, s := range append([]string{h.Sender, h.CWD, h.ClientAddress, h.Login}, h.Left...) {
			if !strings.Contains(string(text), s) {
				t.Errorf("%q is not in the file", s)
			}
		}
	})
}

// A subject is read in whatever character set it was written, and stays as it stands where that is
// not known.
func TestSubjects(t *testing.T) {
	for written, want := range map[string]string{
		"=?koi8-r?B?8NLJ18XU?=":                            "Привет",
		"=?windows-1251?q?=CF=F0=E8?=\n =?KOI8-R?b?18XU?=": "Привет",
		"=?GB2312?B?xOO6ww==?=":                            "你好",
		"=?iso-2022-jp?B?GyRCJDMbKEI=?=":                   "こ",
		"=?x-none?q?a?=":                                   "=?x-none?q?a?=",
		"=?utf-8?q?a?= =?utf-8?q?_b?= c":                   "a b c",
	} {
		line := "Subject: " + written + "\n"
		if _, got := inHeaders([]byte(fmt.Sprintf("%03d  %s", len(line), line))); got != want {
			t.Errorf("%q: %q, want %q", written, got, want)
		}
	}
}
