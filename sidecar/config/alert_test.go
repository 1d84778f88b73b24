package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAlertChannels(t *testing.T) {
	c, err := Parse("f.toml", `[alert]
from = "Alarm@MX1.example"
[[alert.to]]
mail = "ops@Example.net"
[[alert.to]]
webhook = "https://hooks.example.net/T0/secret"
format = "slack"
secret_file = "/etc/sluice/hook.key"
at_least = "critical"
domains = ["A.example"]
subjects = true
[[alert.to]]
mail = "root"
at_least = "info"
[[alert.to]]
exec = "/etc/sluice/page-me"
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []Channel{
		{Name: "mail", Kind: "mail", Target: "ops@example.net", AtLeast: "warning"},
		{Name: "webhook", Kind: "webhook", Target: "https://hooks.example.net/T0/secret", Format: "slack", SecretFile: "/etc/sluice/hook.key",
			AtLeast: "critical", Domains: []string{"a.example"}, Subjects: true},
		{Name: "mail-2", Kind: "mail", Target: "root", AtLeast: "info"},
		{Name: "exec", Kind: "exec", Target: "/etc/sluice/page-me", AtLeast: "warning"},
	}
	if diff := cmp.Diff(want, c.Alert.To); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := c.AlertSender("mx9.example"); got != "Alarm@mx1.example" && got != "alarm@mx1.example" {
		t.Errorf("sender %q", got)
	}
	if got := Default().AlertSender("MX9.Example"); got != "sluice@mx9.example" {
		t.Errorf("default sender %q", got)
	}
	running := Default()
	running.Alert.To = c.Alert.To
	if restart := Default().KeepRunning(running); len(restart) > 0 {
		t.Errorf("a restart is needed for %v", restart)
	}
	for _, v := range c.Values() {
		if strings.Contains(strings.Join(strings.Fields(strings.ReplaceAll(tomlOf(v), "\n", " ")), " "), "T0/secret") {
			t.Errorf("%s shows a secret", v.Key)
		}
	}
}

func tomlOf(v Value) string {
	var b strings.Builder
	WriteTOML(&b, []Value{v})
	return b.String()
}

func TestBadAlertChannels(t *testing.T) {
	for text, want := range map[string]string{
		`to = "ops@example.net"`:            `f.toml:2: alert.to: it must be tables, each written [[alert.to]], with mail = "ops@example.net"`,
		`to = ["ops"]`:                      "alert.to: in the 1st there is no table",
		"[[alert.to]]\nat_least = \"info\"": "in the 1st nobody is named; add mail =",
		"[[alert.to]]\nmail = \"root\"\nwebhook = \"https://a.example\"":    "in the 1st there are mail and webhook; a channel has one of mail, webhook and exec",
		"[[alert.to]]\nmail = \"a, b\"":                                     "in the 1st mail must be one address like",
		"[[alert.to]]\nmail = \"a@b@c\"":                                    "in the 1st mail must be one address like",
		"[[alert.to]]\nmail = \"|/bin/sh\"":                                 "in the 1st mail must be one address like",
		"[[alert.to]]\nwebhook = \"hooks.example.net/x\"":                   "in the 1st webhook must be a URL like",
		"[[alert.to]]\nwebhook = \"https://a.example/***\"":                 "in the 1st webhook must be a whole URL: put in what sluice config has printed as ***",
		"[[alert.to]]\nexec = \"page-me\"":                                  "in the 1st exec must be an absolute path",
		"[[alert.to]]\nmail = \"root\"\nformat = \"slack\"":                 "in the 1st there is a format, which only a webhook has; take it out beside mail",
		"[[alert.to]]\nexec = \"/x\"\nsecret_file = \"/y\"":                 "in the 1st there is a secret_file, with which only posts to a webhook are signed",
		"[[alert.to]]\nmail = \"root\"\nsubjects = true":                    "in the 1st there is subjects, which is for webhook and exec",
		"[[alert.to]]\nwebhook = \"https://a.example\"\nformat = \"teams\"": "in the 1st format must be one of sluice, slack, alertmanager",
		"[[alert.to]]\nmail = \"root\"\nat_least = \"error\"":               "in the 1st at_least must be one of info, warning, critical",
		"[[alert.to]]\nmail = \"root\"\ndomains = [\"-\"]":                  "in the 1st domains must be a list, each a domain name like",
		"[[alert.to]]\nmail = \"root\"\nmails = 1":                          `in the 1st there is an unknown key "mails"; did you mean "mail"?`,
		"[[alert.to]]\nmail = \"root\"\n[[alert.to]]\nmail = \"root\"":      "the 2nd is to where the mail channel is; take one out",
		"from = \"sluice\"":                                                 `alert.from is "sluice", it must be an address like "sluice@mx1.example"`,
		"from = \"a b@mx1.example\"":                                        `it must be an address like`,
		"per_hour = 0":                                                      "alert.per_hour is 0, it must be a whole number from 1 to 1000",
		strings.Repeat("[[alert.to]]\nmail = \"root\"\n", 9):                "there are 9, and 8 are allowed",
	} {
		_, err := Parse("f.toml", "[alert]\n"+text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n\tgives the error %v\n\twant %s", text, err, want)
		}
	}
}

// A URL with a mistake in it may have a secret in it all the same.
func TestErrorsOfAlertsRepeatNoURL(t *testing.T) {
	_, err := Parse("f.toml", "[[alert.to]]\nwebhook = \"htps://hooks.example.net/secret\"\n")
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}
