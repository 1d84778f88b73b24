package printable_test

import (
	"encoding/json"
	"net/netip"
	"os/exec"
	"testing"
	"unicode/utf8"

	"sluice/sidecar/printable"
)

// S-07: nothing that a sender has chosen commands a terminal, or changes what is read.
func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      "",
		"bücher.example 日本 (105%) \\ \"":        "bücher.example 日本 (105%) \\ \"",
		"a@x\u009b31mred.example":               `a@x\u009b31mred.example`, // CSI, as one character
		"a@x\x1b[31mred.example":                `a@x\u001b[31mred.example`,
		"a@\u202egpj.example":                   `a@\u202egpj.example`,
		"\u202a\u2066\u2069\u200e\u200f\u061c":  `\u202a\u2066\u2069\u200e\u200f\u061c`,
		"a\r\n\tb\x7f\x00":                      `a\u000d\u000a\u0009b\u007f\u0000`,
		"\u2028\u2029\u0085\u00a0":              `\u2028\u2029\u0085\u00a0`,
		"\x9b31m\xff\xe2\x80":                   `\x9b31m\xff\xe2\x80`, // bytes that are no UTF-8
		"\ufffd":                                `\ufffd`,
		"\U000e0041":                            `\udb40\udc41`,                          // an invisible tag
		"a\u200b\u200d\u2060\ufeff\ufe0f\u00ad": `a\u200b\u200d\u2060\ufeff\ufe0f\u00ad`, // without width
		"\u3164\u115f\uffa0\u034f\u2800":        `\u3164\u115f\uffa0\u034f\u2800`,        // letters and marks that show nothing
		"\u0301e\u0301 ไม่":                     "\\u0301e\u0301 ไม่",                    // an accent on nothing, and two where they belong
		"e\u0301\u0301\u0301\u0301\u0301\u0301": "e\u0301\u0301\u0301\u0301\\u0301\\u0301",
	} {
		if got := printable.Of(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
	if got := printable.Lines("a\nb\r\x1b\n"); got != "a\nb\\u000d\\u001b\n" {
		t.Errorf("lines became %q", got)
	}
}

func TestTextIsCutByCells(t *testing.T) {
	for _, c := range []struct {
		text, want string
		cells      int
	}{
		{"abcdef", "abcdef", 6}, {"abcdef", "abcd…", 5}, {"abcdef", "…", 1},
		{"日本語", "日本語", 6}, {"日本語", "日…", 4}, {"日本語", "日本…", 5},
		{"e\u0301e\u0301e\u0301", "e\u0301e\u0301e\u0301", 3}, {"e\u0301e\u0301e\u0301", "e\u0301…", 2},
		{"a\x1bb", `a\u00…`, 6},
	} {
		got := printable.TextOf(c.text).Cut(c.cells)
		if got.String() != c.want || got.Width() > c.cells {
			t.Errorf("%q in %d cells is %q, of %d, want %q", c.text, c.cells, got, got.Width(), c.want)
		}
	}
}

func TestTextIsShortenedByBytes(t *testing.T) {
	for text, want := range map[string]string{"": "", "12345678": "12345678", "123456789": "12345...", "1234éabc": "1234..."} {
		if got := printable.Shorten(text, 8); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestNetworks(t *testing.T) {
	for prefix, want := range map[netip.Prefix]string{
		{}:                                       "",
		netip.MustParsePrefix("192.0.2.1/32"):    "192.0.2.1",
		netip.MustParsePrefix("192.0.2.0/24"):    "192.0.2.0/24",
		netip.MustParsePrefix("2001:db8::1/128"): "2001:db8::1",
		netip.MustParsePrefix("2001:db8::/64"):   "2001:db8::/64",
	} {
		if got := printable.Network(prefix); got != want {
			t.Errorf("%v: %q, want %q", prefix, got, want)
		}
	}
}

// A name that cannot be read as it is stands in no command; every other one is one word to a shell.
func TestCommand(t *testing.T) {
	for _, name := range []string{"", "-rf", "a\nb", "a\x1b[2Jb", "a\xffb", "a\u202eb", "a\u200bb", "a\u05d0b@x", "a\u0627b@x", "a\u0661b@x"} {
		if got := printable.Command("sluice stop", name); got != "" {
			t.Errorf("%q stands in %q", name, got)
		}
		if got := printable.Command("sluice stop", "fine", name); got != "" {
			t.Errorf("%q stands in %q", name, got)
		}
	}
	for _, name := range []string{"news@example.com", "script:/home/bob/$(reboot)", "a'b; \"c\" `d` \\ !e *? ~ #x", "müller@bücher.example", "=x", "~root", "a&b|c<d>e"} {
		command := printable.Command("printf %s", name)
		out, err := exec.Command("sh", "-c", command).Output()
		if err != nil || string(out) != name {
			t.Errorf("%s: a shell takes %q for %q, %v", command, name, out, err)
		}
	}
	if got, want := printable.Command("grep POST", "/var/log/a b", "x"), "grep POST '/var/log/a b' x"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("a@x\u009b31m\xff\U000e0041\n")
	f.Fuzz(func(t *testing.T, text string) {
		shown := printable.Of(text)
		if again := printable.Of(shown); again != shown {
			t.Errorf("%q became %q, and that %q", text, shown, again)
		}
		// In JSON the escapes mean what stood there.
		whole, _ := json.Marshal(text)
		var back string
		if err := json.Unmarshal([]byte(printable.Of(string(whole))), &back); err != nil || utf8.ValidString(text) && back != text {
			t.Errorf("%q came back from JSON as %q, %v", text, back, err)
		}
	})
}
