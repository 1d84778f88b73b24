package main

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The release notes begin with the newest version and its date, and what is built without a tag is called after it.
func TestVersionsOfTheReleaseNotes(t *testing.T) {
	found := regexp.MustCompile(`(?m)^# (.*)$`).FindAllStringSubmatch(string(read(t, "../../docs/relnotes.md")), -1)
	before := time.Time{}
	for i, m := range found {
		version, date, _ := strings.Cut(m[1], ", ")
		at, err := time.Parse(time.DateOnly, date)
		if err != nil || !regexp.MustCompile(`^\d+\.\d+\.\d+$`).MatchString(version) || i > 0 && at.After(before) {
			t.Errorf("%q is no version with its date, or no older one than that before it: %v", m[0], err)
		}
		before = at
	}
	if len(found) == 0 {
		t.Fatal("there is no version")
	}
	newest, _, _ := strings.Cut(found[0][1], ",")
	cmd := exec.Command("make", "-n", "build")
	cmd.Dir = "../.."
	cmd.Env = append(cmd.Environ(), "GIT_DIR=/nonexistent") // as an archive of the tree, without tags
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), `main.version=`+newest+`"`) {
		t.Errorf("make build builds another version than %s: %v\n%s", newest, err, out)
	}
}
