package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sluice/sidecar/config"
)

var (
	link       = regexp.MustCompile("\\[(`?)([^]`]+)`?\\]\\(([^)#]+)\\)")
	identifier = regexp.MustCompile(`^(\w+\.)?\w+$`)
)

// What the documents link to exists: the file, and in it the function, type,
// macro, ACL or router that the link is named after.
func TestLinksOfTheDocuments(t *testing.T) {
	documents, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range append(documents, "../../README.md", "../../CONTRIBUTING.md") {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			code, name, target := m[1] != "", m[2], m[3]
			content, err := readAny(filepath.Join(filepath.Dir(document), target))
			if err != nil {
				t.Errorf("%s: %v", document, err)
			} else if code && identifier.MatchString(name) && !defines(content, name) {
				t.Errorf("%s: %s is not in %s", document, name, target)
			}
		}
	}
}

// What sidecar/doc.go names exists: "Rules.Payer, in identity/identity.go".
func TestNamesInThePackageDocument(t *testing.T) {
	text, err := os.ReadFile("../../sidecar/doc.go")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?:(\S+),\s+(?://\s+)?in\s+(?://\s+)?)?((?:\w+/)*\w+\.go)`).FindAllStringSubmatch(string(text), -1)
	for _, m := range found {
		content, err := readAny("../../sidecar/" + m[2])
		if name := m[1]; err != nil || name != "" && !defines(content, name) && !strings.Contains(content, ") "+name+"(") {
			t.Errorf("%s is not there: %v", m[0], err)
		}
	}
	if len(found) < 5 {
		t.Errorf("it names only %d files", len(found))
	}
}

// readAny reads a file; for a directory it returns "".
func readAny(path string) (string, error) {
	if info, err := os.Stat(path); err != nil || info.IsDir() {
		return "", err
	}
	b, err := os.ReadFile(path)
	return string(b), err
}

// defines looks for a definition as Go, Perl or Exim's configuration has them.
func defines(content, name string) bool {
	if receiver, method, ok := strings.Cut(name, "."); ok {
		return regexp.MustCompile(`(?m)^func \(\w+ \*?` + receiver + `\) ` + method + `\(`).MatchString(content)
	}
	return regexp.MustCompile(`(?m)^(func |package |type |sub |sub main::)?` + name + `( =|:|\(| {|$| struct| interface)|\b` + name + `\s*=`).MatchString(content)
}

// The configurations that we ship are valid.
func TestShippedConfigs(t *testing.T) {
	for _, file := range []string{"../../docs/sluice.toml", "../../testdata/demo/sluice.toml", "../../testdata/compose/sluice.toml"} {
		if _, err := config.Load(file); err != nil {
			t.Error(err)
		}
	}
}

// It serves the stores that the nodes in docker-compose.yml use.
func TestComposedStores(t *testing.T) {
	text, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	stores := regexp.MustCompile(`STORE_URL: "(.*)"`).FindAllSubmatch(text, -1)
	if len(stores) != 3 {
		t.Fatalf("docker-compose.yml has %d stores, not one Redis, a cluster and Sentinel", len(stores))
	}
	for _, store := range stores {
		if _, err := config.Parse("docker-compose.yml", fmt.Sprintf("[store]\nurl = %q", store[1])); err != nil {
			t.Error(err)
		}
	}
}

var testName = regexp.MustCompile(`\bTest[A-Z]\w+`)

// The tests that docs/security.md names exist.
func TestThreatsAreTested(t *testing.T) {
	text, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	names := testName.FindAllString(string(text), -1)
	if len(names) < 20 {
		t.Errorf("only %d tests are named", len(names))
	}
	for _, name := range names {
		if exec.Command("grep", "-rqE", "--include=*_test.go", `^func `+name+`\(t \*testing\.T\)`, "../..").Run() != nil {
			t.Errorf("there is no %s", name)
		}
	}
}
