package domains

import (
	"os"
	"strings"
	"testing"
)

// Local domains are names, all below a name, files, files in which Exim looks up names, and
// directories; exceptions win over all of them.
func TestLocalDomains(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"names":  "one.example # the first\n  Two.Example\n*.below.example\n!but.below.example\n! nor.below.example\n",
		"lookup": "three.example: x\n  value.example\nfour.example five.example\n",
		"not":    "not.below.example\n",
	} {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(dir+"/d/six.example", 0o755); err != nil {
		t.Fatal(err)
	}
	f := Follow([]string{"typed.example", "*.wild.example", dir + "/names", "!" + dir + "/not", dir + "/lookup", "!*.deep.wild.example", dir + "/d"})
	if err := f.Refresh(); err != nil {
		t.Fatal(err)
	}
	for domain, want := range map[string]bool{
		"typed.example": true, "one.example": true, "two.example": true, "three.example": true, "four.example": true, "six.example": true,
		"a.below.example": true, "b.wild.example": true, "deep.wild.example": true,
		"below.example": false, "not.below.example": false, "but.below.example": false, "nor.below.example": false, "a.deep.wild.example": false, "example": false, "": false,
		"value.example": false, "five.example": false, "the": false,
	} {
		if f.Get().Has(domain) != want {
			t.Errorf("%q is local: %v", domain, !want)
		}
	}
}

// A file is read as Exim does: as a list, whose lines may be wildcards and exceptions, or for a lookup,
// whose keys are names and nothing else.
func TestFilesOfLookups(t *testing.T) {
	dir := t.TempDir()
	text := "# a comment\n*.wild.example: x\n!but.example\nkey.example: x\n  value.example\n\n# within\n\tgoes.on.example\n" +
		"White.Example x\n\"quoted.example\": x\n\"es\\x63.example\"\nmark.example#x\ndot.example.\n: empty\n\" gap.example\"\nlast.example"
	if err := os.WriteFile(dir+"/file", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"key.example", "*.wild.example", "!but.example", "Upper.Example", "a.example x", "mark.example#x", "one\nline.example"} {
		if err := os.MkdirAll(dir+"/d/"+name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	all := "a.wild.example but.example key.example value.example goes.on.example white.example x quoted.example esc.example mark.example dot.example gap.example " +
		"last.example upper.example a.example line.example"
	for entries, want := range map[string]string{
		"FILE":                     "a.wild.example key.example white.example mark.example dot.example last.example",
		"lsearch;FILE":             "key.example white.example quoted.example last.example",
		"dsearch;DIR":              "key.example",
		"!lsearch;FILE *.example":  "a.wild.example but.example value.example goes.on.example esc.example mark.example dot.example gap.example upper.example a.example line.example",
		"lsearch;DIR/none":         "",
		"wildlsearch;FILE":         "",
		"dsearch;DIR lsearch;FILE": "key.example white.example quoted.example last.example",
	} {
		f := Follow(strings.Fields(strings.NewReplacer("FILE", dir+"/file", "DIR", dir+"/d").Replace(entries)))
		if err := f.Refresh(); err != nil {
			t.Fatal(err)
		}
		var has []string
		for _, domain := range strings.Fields(all) {
			if f.Get().Has(domain) {
				has = append(has, domain)
			}
		}
		if got := strings.Join(has, " "); got != want {
			t.Errorf("%s has %s, want %s", entries, got, want)
		}
	}
	for entry, want := range map[string]int{lsearch + dir + "/file": 4, dsearch + dir + "/d": 1} {
		if s, err := Read(entry); err != nil || len(s.Domains) != want || len(s.Parents) > 0 || s.Not != nil {
			t.Errorf("%s has what is no domain: %v, %v", entry, s, err)
		}
	}
}
