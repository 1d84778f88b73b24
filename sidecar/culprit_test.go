package sidecar

import (
	"strings"
	"testing"
)

func TestCulprit(t *testing.T) {
	for _, c := range []struct {
		key       string
		count, of int64
		want      string
	}{
		{"hacked@a.example", 461, 487, "mostly hacked@a.example, 461 of 487"},
		{"hacked@a.example", 2, 4, "mostly hacked@a.example, 2 of 4"},
		{"hacked@a.example", 49, 100, "most of all hacked@a.example, 49 of 100"},
		{"hacked@a.example", 10, 100, "most of all hacked@a.example, 10 of 100"},
		{"hacked@a.example", 9, 100, ""},
		{"hacked@a.example", 0, 0, ""},
		{"", 461, 487, ""},
	} {
		who := Culprit{Author: Author{Key: c.key}, Count: c.count, Of: c.of}
		if got := who.String(); got != c.want || who.Named() != (c.want != "") || (len(who.Attrs()) > 0) != (c.want != "") {
			t.Errorf("%+v: %q, want %q", who, got, c.want)
		}
	}
}

func TestIsMailboxOf(t *testing.T) {
	long := AuthorKey("", strings.Repeat("x", 300)+"@a.example")
	for key, want := range map[string]bool{
		"hacked@a.example": true, `"a@b.example"@a.example`: true,
		"hacked@b.example": false, "hacked@sub.a.example": false, "a.example": false, "": false, long: true,
		"forward:info@a.example": false, "script:/home/bob/@a.example": false, "login:bob@a.example": false, "service:x@a.example": false,
	} {
		if got := (Culprit{Author: Author{Key: key}}).IsMailboxOf("a.example"); got != want {
			t.Errorf("%s: %v", key, got)
		}
		if (Culprit{Author: Author{Key: key}}).IsMailboxOf("") {
			t.Errorf("%s is one of no domain", key)
		}
	}
}
