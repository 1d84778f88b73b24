package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The README, as an operator follows it on a machine that systemd has booted, and what
// docs/cluster.md and docs/postfix.md have to add to it:
//
//	README.md ─ each command, as it stands there ─→ root's shell ─→ systemd, Exim, sluice
//	TestReadme ─ SMTP, sendmail, questions ─────────────────────────────┘
//
// Whoever writes a command into the README types it in TestReadme too, or it fails.

// elsewhere is what TestReadme does not type, and why.
var elsewhere = map[string]string{
	"make test": "TestReadme is part of it",
	"make soak": "it takes hours",

	"make package":                       "TestPackage makes one",
	"dpkg -r sluice":                     "TestPackage does so",
	"dpkg --force-confold -i":            "TestPackage does so",
	"dpkg --purge sluice":                "TestPackage does so",
	"rpm -e sluice":                      "the machine is a Debian",
	"systemctl restart exim":             "it is DirectAdmin's",
	"sluice queue restore --quarantined": "TestQueueActsAndUndo restores what is quarantined",
	"dpkg -i sluice_*_amd64.deb\nsluice set default mode=watch --why \"first week\"\nsluice exim install\nsystemctl reload exim4\nsluice doctor\n": "TestPackage does so",

	"sluice script disable /home/bob/public_html/wp/mailer.php": "it watches for a minute; Disable a script types it without that",
	"sluice script scan /home/bob":                              "the machine has no ClamAV; TestAScanOfAHome has",
	"sluice expect mx1-42":                                      "TestExpect does so, with the number of an incident",
}

// A newcomer types on a machine what the README says.
type newcomer struct {
	*machine
	readme *readme
}

// A readme is the commands of README.md, and of the pages that it leads operators through: their
// blocks, but those marked as text, and the code spans of several words.
type readme struct {
	at     map[string]string // file and line of each, by its text
	unused map[string]bool
}

// readmes are the pages whose commands TestReadme types.
var readmes = []string{"README.md", "docs/install.md", "docs/commands.md"}

var codeSpan = regexp.MustCompile("`([^`\n]+)`")

func readReadme(t *testing.T) *readme {
	t.Helper()
	r := &readme{map[string]string{}, map[string]bool{}}
	for _, page := range readmes {
		text, err := os.ReadFile("../../" + page)
		if err != nil {
			t.Fatal(err)
		}
		r.read(page, string(text))
	}
	for command := range r.at {
		r.unused[command] = true
	}
	return r
}

// read takes the commands of a page.
func (r *readme) read(page, text string) {
	var block strings.Builder
	fence, n := "", 0
	for line := range strings.Lines(text) {
		n++
		switch marks := strings.TrimSpace(line); {
		case fence == "" && strings.HasPrefix(line, "```"):
			fence = marks
			block.Reset()
		case fence != "" && marks == "```":
			if fence != "```text" {
				r.at[block.String()] = fmt.Sprintf("%s:%d", page, n-strings.Count(block.String(), "\n"))
			}
			fence = ""
		case fence != "":
			block.WriteString(line)
		default:
			for _, span := range codeSpan.FindAllStringSubmatch(line, -1) {
				if strings.Contains(span[1], " ") {
					r.at[span[1]] = fmt.Sprintf("%s:%d", page, n)
				}
			}
		}
	}
}

// block is the block that begins so.
func (o *newcomer) block(t *testing.T, begins string) string {
	t.Helper()
	for text := range o.readme.at {
		if strings.HasPrefix(text, begins) && strings.HasSuffix(text, "\n") {
			delete(o.readme.unused, text)
			for line := range strings.Lines(text) {
				delete(o.readme.unused, strings.TrimSuffix(line, "\n"))
			}
			return text
		}
	}
	t.Fatalf("README.md and its pages have no block that begins with %q", begins)
	return ""
}

// types types a command that the README has, and returns what it printed.
func (o *newcomer) types(t *testing.T, command string) string {
	t.Helper()
	if o.readme.at[command] == "" {
		t.Errorf("README.md does not have %q", command)
	}
	delete(o.readme.unused, command)
	return o.run(t, strings.ReplaceAll(command, ".../", "/var/cpanel/"))
}

func TestReadme(t *testing.T) {
	t.Parallel()
	o := &newcomer{bootMachine(t), readReadme(t)}
	for _, chapter := range []struct {
		name string
		test func(*newcomer, *testing.T)
	}{
		{"Try it", (*newcomer).tries},
		{"Install", (*newcomer).installs},
		{"Does it work", (*newcomer).sends},
		{"Watch, then enforce", (*newcomer).watches},
		{"Use it", (*newcomer).uses},
		{"Be told", (*newcomer).isTold},
		{"Disable a script", (*newcomer).disablesAScript},
		{"Raise a limit for a day", (*newcomer).raisesForADay},
		{"Raise a limit", (*newcomer).raises},
		{"Update", (*newcomer).updates},
		{"The way tcp", (*newcomer).asksByTCP},
		{"Reboot", (*newcomer).reboots},
		{"Watchdog", (*newcomer).hangs},
		{"Stop", (*newcomer).stops},
		{"A cluster", (*newcomer).sharesARedis},
		{"A Postfix node", (*newcomer).asksForPostfix},
		{"Remove", (*newcomer).removes},
	} {
		if !t.Run(chapter.name, func(t *testing.T) { chapter.test(o, t) }) {
			out, _ := o.try(t, "journalctl --no-pager -n 50 -u 'sluice*'\ntail -n 50 /var/log/exim4/*log\nsluice status")
			t.Fatalf("on the machine:\n%s", out)
		}
	}
	for _, command := range slices.Sorted(maps.Keys(o.readme.unused)) {
		at := o.readme.at[command]
		if why := elsewhere[command]; why != "" {
			t.Logf("%s: %s: %s", at, command, why)
		} else {
			t.Errorf("%s: TestReadme does not type\n%s\nHave it do so, and show what comes of it. (What is no command is marked ```text.)", at, command)
		}
	}
}

// tries is the one chapter for the machine that one has.
func (o *newcomer) tries(t *testing.T) {
	cmd := exec.Command("sh", "-ec", strings.ReplaceAll(o.block(t, "make demo\n"), "make test\n", ""))
	cmd.Dir = "../.."
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "messages have arrived at their destination.") {
		t.Fatalf("make demo: %v\n%s", err, out)
	}
	delete(o.readme.unused, "make demo")
}
