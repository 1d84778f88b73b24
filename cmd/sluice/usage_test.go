package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"sluice/sidecar/senders"
)

// What a command says to type is what helps: the whole command, and nothing that would be refused.
func TestWrongUsageSaysWhatToType(t *testing.T) {
	for _, c := range []struct {
		args string
		says string // at its end
	}{
		{"login state --nosuch", "Try: sluice login state --help\n"},
		{"queue show --nosuch", "Try: sluice queue show --help\n"},
		{"exim install --json", "Try: sluice exim install --help\n"},
		{"status --nosuch", "Try: sluice status --help\n"},
		{"nosuch", "Try: sluice --help\n"},
		{"lock foo:bar", "foo:bar is no domain, and only domains have locks\n"},
		{"lock account:", "account: is no domain, and only domains have locks\n"},
		{"unlock client:192.0.2.1", "to start it: `sluice start client:192.0.2.1`\n"},
		{"unlock News@shop.example", "to start one mailbox: `sluice start news@shop.example`; `sluice reset News@shop.example` lets it start at zero\n"},
		{"log shop.example --last 0", "log shop.example: --last is 0, it must be 1 at least\n"},
		{"lock account:bob", "to stop it: `sluice stop account:bob`; `sluice reset account:bob` lets it start at zero\n"},
		{"lock News@shop.example", "to stop one mailbox: `sluice stop news@shop.example`; `sluice reset News@shop.example` lets it start at zero\n"},
		{"start SHOP.example", "start shop.example: a domain is locked, not stopped: sluice unlock shop.example\n"},
		{"start *", "start: \"*\" must be a domain name like \"example.com\"\n"},
		{"stop a..b", "stop: \"a..b\" must be a domain name like \"example.com\"\n"},
		{"actions --last 0", "actions: --last is 0, it must be 1 at least\n"},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), strings.Fields(c.args), nil, &stdout, &stderr); code != exitError || !strings.HasSuffix(stderr.String(), c.says) {
			t.Errorf("%s: exit %d, %s, want %s", c.args, code, stderr.String(), c.says)
		}
	}
}

// Where nobody answers, what an operator's hand can do all the same is told, and what is not known is no
// empty list and no "no".
func TestWithoutARunningSluice(t *testing.T) {
	dir := t.TempDir()
	config := dir + "/sluice.toml"
	writeFile(t, config, strings.Replace(serveConfig(dir), "/nonexistent", "/bin/false", 1))
	for args, says := range map[string]string{
		"lock shop.example":   " sluice finds them when it starts: touch " + dir + "/locks/max_hourly_shop.example\n",
		"unlock shop.example": " that they are gone: rm -f " + dir + "/locks/max_hourly_shop.example " + dir + "/locks/max_deferfail_shop.example\n",
		"queue --held":        "queue: which messages are held only a running sluice knows, and none runs\n",
		"queue remove":        "sluice: queue remove: say which messages: sluice queue remove --help; all are those that came within 100 days: --younger 100d\n",
		"clean shop.example":  "sluice: clean shop.example: find an incident: ask " + dir + "/run/admin.sock: nobody answers: connect: no such file or directory\nIs `sluice serve` running, and with the same --config?\n",
		"exim show":           "", // it could not be found out, which is another thing than not to be in
	} {
		var out bytes.Buffer
		if code := run(t.Context(), append(strings.Fields(args), "--config", config), strings.NewReader(""), &out, &out); code != exitError || !strings.HasSuffix(out.String(), says) {
			t.Errorf("%s: exit %d, %s, want %s", args, code, &out, says)
		}
	}
}

// What is not known of who sends is no empty table.
func TestSharesThatAreNotKnown(t *testing.T) {
	who := senders.Who{Seconds: 3600, Domains: []senders.Report{{Domain: "shop.example", Authors: []senders.Author{{Key: "news@shop.example", Tried: 3}}}}}
	for seconds, want := range map[float64]string{
		3600: "no network is known of it; of what came before the start of sluice the main log has it: sluice who --log FILE...\n",
		0:    "no network is known of it\n", // it is from the log
	} {
		var out bytes.Buffer
		who.Seconds = seconds
		printWho(&out, who, "network", 20, false)
		if !strings.HasPrefix(out.String(), want) {
			t.Errorf("printed\n%s, want\n%s", &out, want)
		}
	}
}

// A fullDisk takes nothing.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// Who redirects the output to a disk that is full is told, and so is a script, by the exit code.
func TestAFullDiskIsTold(t *testing.T) {
	for _, args := range []string{"version", "version --json", "--help", "status --help", "man", "config --check --config " + simulateConfig(t, "")} {
		var stderr bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), nil, fullDisk{}, &stderr); code != exitError || !strings.Contains(stderr.String(), "no space left on device") {
			t.Errorf("%s: exit %d, %s", args, code, stderr.String())
		}
	}
}
