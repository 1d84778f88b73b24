package sidecar_test

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"sluice/sidecar"
)

// S-07: nothing that a sender has chosen commands a terminal, or changes what is read.
func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "",
		"bücher.example 日本 (105%) \\ \"":       "bücher.example 日本 (105%) \\ \"",
		"a@x\u009b31mred.example":              `a@x\u009b31mred.example`, // CSI, as one character
		"a@x\x1b[31mred.example":               `a@x\u001b[31mred.example`,
		"a@\u202egpj.example":                  `a@\u202egpj.example`,
		"\u202a\u2066\u2069\u200e\u200f\u061c": `\u202a\u2066\u2069\u200e\u200f\u061c`,
		"a\r\n\tb\x7f\x00":                     `a\u000d\u000a\u0009b\u007f\u0000`,
		"\u2028\u2029\u0085\u00a0":             `\u2028\u2029\u0085\u00a0`,
		"\x9b31m\xff\xe2\x80":                  `\x9b31m\xff\xe2\x80`, // bytes that are no UTF-8
		"\ufffd":                               `\ufffd`,
		"\U000e0041":                           `\udb40\udc41`, // an invisible tag
	} {
		if got := sidecar.Printable(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
	if got := sidecar.PrintableLines("a\nb\r\x1b\n"); got != "a\nb\\u000d\\u001b\n" {
		t.Errorf("lines became %q", got)
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("a@x\u009b31m\xff\U000e0041\n")
	f.Fuzz(func(t *testing.T, text string) {
		shown := sidecar.Printable(text)
		if again := sidecar.Printable(shown); again != shown {
			t.Errorf("%q became %q, and that %q", text, shown, again)
		}
		// In JSON the escapes mean what stood there.
		whole, _ := json.Marshal(text)
		var back string
		if err := json.Unmarshal([]byte(sidecar.Printable(string(whole))), &back); err != nil || utf8.ValidString(text) && back != text {
			t.Errorf("%q came back from JSON as %q, %v", text, back, err)
		}
	})
}
