package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"sluice/ratelimit/redisurl"
	"sluice/sidecar/envelope"
	"sluice/sidecar/field"
)

// The kinds of a Channel: alert.to has one table for each channel, with one of these keys.
const (
	AlertMail    = "mail"
	AlertWebhook = "webhook"
	AlertExec    = "exec"
)

// The formats of what is posted to a webhook.
const (
	FormatSluice       = "sluice" // JSON of our own
	FormatSlack        = "slack"
	FormatAlertmanager = "alertmanager" // API v2
)

// A Channel is a way on which operators are told of incidents.
type Channel struct {
	Name       string   // by which commands name it: "mail", "mail-2" for the second one
	Kind       string   // AlertMail, AlertWebhook or AlertExec
	Target     string   // address, URL or absolute path
	Format     string   // of a webhook
	SecretFile string   // has the key with which posts are signed; empty: they are not
	AtLeast    string   // info, warning or critical: what is less urgent is not told
	Domains    []string // only what is about these is told; empty: all is
	Actions    bool     // what operators do is told too: tell_actions
	Subjects   bool     // subjects of messages are told too; by mail they always are
}

// maxChannels bounds the channels: each has a queue, and a label of the metrics.
const maxChannels = 8

// defaultChannels is root's mail.
func defaultChannels() []Channel {
	return []Channel{{Name: AlertMail, Kind: AlertMail, Target: "root", AtLeast: "warning"}}
}

// Key is the same for channels to the same target. What was told on a channel is kept under it.
func (c Channel) Key() string {
	sum := sha256.Sum256([]byte(c.Kind + " " + c.Format + " " + c.Target))
	return c.Kind + "-" + hex.EncodeToString(sum[:6])
}

// Shown is the target as it may be printed: in the path of a URL there often is a secret.
func (c Channel) Shown() string {
	u, err := url.Parse(c.Target)
	if c.Kind != AlertWebhook || err != nil || u.Path == "" && u.RawQuery == "" && u.User == nil {
		return c.Target
	}
	return u.Scheme + "://" + u.Host + "/" + redisurl.Mask
}

// Secret is the key with which posts are signed, read at each call; nil if they are not signed.
func (c Channel) Secret() ([]byte, error) {
	if c.SecretFile == "" {
		return nil, nil
	}
	text, err := readSecret(c.SecretFile)
	if text = strings.TrimRight(text, "\r\n"); err == nil && text == "" {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("read the key of the %s channel: secret_file %s: %w", c.Name, c.SecretFile, err)
	}
	return []byte(text), nil
}

// AlertSender is the envelope sender of notices by mail of a node, in canonical form.
func (c *Config) AlertSender(node string) string {
	return cmp.Or(c.Alert.From, "sluice@"+envelope.FoldDomain(node))
}

// An alertList is the field of alert.to: a list of tables. Its errors are whole sentences, for
// they must not repeat a URL with a secret in it.
type alertList struct{ field *[]Channel }

// Set implements field.Value.
func (l alertList) Set(v any) error {
	entries, ok := v.([]any)
	if tables, is := v.([]map[string]any); is { // written [[alert.to]]
		ok = true
		for _, t := range tables {
			entries = append(entries, t)
		}
	}
	switch {
	case !ok:
		return errors.New(`it must be tables, each written [[alert.to]], with mail = "ops@example.net", webhook = "https://..." or exec = "/path/of/program"`)
	case len(entries) > maxChannels:
		return fmt.Errorf("there are %d, and %d are allowed: have one program (exec) tell the others", len(entries), maxChannels)
	}
	all := []Channel{}
	for i, e := range entries {
		c, err := channelOf(e)
		if err != nil {
			return fmt.Errorf("in the %s %w", ordinal(i+1), err)
		}
		same := 1
		for _, other := range all {
			if other.Key() == c.Key() {
				return fmt.Errorf("the %s is to where the %s channel is; take one out", ordinal(i+1), other.Name)
			}
			if other.Kind == c.Kind {
				same++
			}
		}
		if c.Name = c.Kind; same > 1 {
			c.Name = fmt.Sprintf("%s-%d", c.Kind, same)
		}
		all = append(all, c)
	}
	*l.field = all
	return nil
}

// channelKeys are the keys of a table of alert.to, with what each must be and how it is set.
func channelKeys(c *Channel) []configKey {
	return []configKey{
		{AlertMail, field.Text(&c.Target, mailTarget)},
		{AlertWebhook, field.Text(&c.Target, webhookTarget)},
		{AlertExec, field.Text(&c.Target, field.AbsolutePath)},
		{"format", field.Text(&c.Format, field.OneOf(FormatSluice, FormatSlack, FormatAlertmanager))},
		{"secret_file", field.Text(&c.SecretFile, field.AbsolutePath)},
		{"at_least", field.Text(&c.AtLeast, field.OneOf("info", "warning", "critical"))},
		{"domains", field.List(&c.Domains, field.Domain)},
		{"subjects", field.Bool(&c.Subjects)},
		{"tell_actions", field.Bool(&c.Actions)},
	}
}

// channelOf parses one table of alert.to. Its errors complete a sentence that begins with where
// that table is.
func channelOf(v any) (Channel, error) {
	c := Channel{AtLeast: "warning"}
	table, ok := v.(map[string]any)
	if !ok {
		return c, errors.New("there is no table")
	}
	keys := channelKeys(&c)
	var names []string
	for _, k := range keys {
		names = append(names, k.name)
	}
	for _, name := range slices.Sorted(maps.Keys(table)) {
		i := slices.Index(names, name)
		if i < 0 {
			return c, fmt.Errorf("there is an unknown key %s; %s", field.QuoteTOML(name), field.Suggest(name, names))
		}
		if err := keys[i].value.Set(table[name]); err != nil {
			return c, fmt.Errorf("%s must be %w", name, err)
		}
		if i > 2 {
			continue
		}
		if c.Kind != "" {
			return c, fmt.Errorf("there are %s and %s; a channel has one of mail, webhook and exec", c.Kind, name)
		}
		c.Kind = name
	}
	return c, c.check(table)
}

// check looks whether what a table sets goes together, and completes it.
func (c *Channel) check(table map[string]any) error {
	_, format := table["format"]
	switch {
	case c.Kind == "":
		return errors.New(`nobody is named; add mail = "ops@example.net", webhook = "https://..." or exec = "/path/of/program"`)
	case c.Kind != AlertWebhook && format:
		return fmt.Errorf("there is a format, which only a webhook has; take it out beside %s", c.Kind)
	case c.Kind != AlertWebhook && c.SecretFile != "":
		return fmt.Errorf("there is a secret_file, with which only posts to a webhook are signed; take it out beside %s", c.Kind)
	case c.Kind == AlertMail && table["subjects"] != nil:
		return errors.New("there is subjects, which is for webhook and exec: mail always has them; take it out")
	case c.Kind == AlertWebhook:
		c.Format = cmp.Or(c.Format, FormatSluice)
	}
	return nil
}

// mailAddress is what a header line takes as one address, as it is.
var mailAddress = regexp.MustCompile(`^[A-Za-z0-9_+=~'&#.-]{1,64}$`)

// mailTarget is a Check for an address, or the login of somebody on this host.
func mailTarget(s string) (string, error) {
	local, domain, remote := strings.Cut(s, "@")
	folded, err := field.Domain(domain)
	if !mailAddress.MatchString(local) || remote && err != nil {
		return "", errors.New(`one address like "ops@example.net", or a login of this host like "root"`)
	}
	if remote {
		local += "@" + folded
	}
	return local, nil
}

// alertFrom is a Check for the sender of notices.
func alertFrom(s string) (string, error) {
	address, err := field.Mailbox(s)
	if local, _, _ := strings.Cut(address, "@"); err != nil || !mailAddress.MatchString(local) {
		return "", errors.New(`an address like "sluice@mx1.example"`)
	}
	return address, nil
}

// webhookTarget is a Check for URLs to which is posted.
func webhookTarget(s string) (string, error) {
	u, err := url.Parse(s)
	odd := strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
	switch {
	case err != nil || odd || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Fragment != "":
		return "", errors.New(`a URL like "https://hooks.example.net/x"`)
	case strings.Contains(s, redisurl.Mask):
		return "", fmt.Errorf("a whole URL: put in what sluice config has printed as %s", redisurl.Mask)
	}
	return s, nil
}

// Get implements field.Value.
func (l alertList) Get() any { return l.tables(func(c Channel) string { return c.Target }) }

// shown is the value without secrets.
func (l alertList) shown() any { return l.tables(Channel.Shown) }

func (l alertList) tables(target func(Channel) string) any {
	all := []any{}
	for _, c := range *l.field {
		t := map[string]any{c.Kind: target(c), "at_least": c.AtLeast}
		for name, text := range map[string]string{"format": c.Format, "secret_file": c.SecretFile} {
			if text != "" {
				t[name] = text
			}
		}
		if len(c.Domains) > 0 {
			t["domains"] = slices.Clone(c.Domains)
		}
		if c.Subjects {
			t["subjects"] = true
		}
		all = append(all, t)
	}
	return all
}

// Typed implements field.Value. No command sets this key.
func (l alertList) Typed(text string) any { return text }
