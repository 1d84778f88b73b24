package config

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"strings"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/domains"
	"sluice/sidecar/field"
	"sluice/sidecar/limit"
)

// keys lists all keys but those of single domains, accounts and mailboxes, in the order
// in which `sluice config` prints them.
func (c *Config) keys() []configKey {
	return append([]configKey{
		{"listen.policy", field.List(&c.Listen.Policy, policyListener)},
		{"listen.milter", field.List(&c.Listen.Milter, milterListener)},
		{"listen.token_file", field.Text(&c.Listen.TokenFile, field.AbsolutePath)},
		{"listen.admin", field.Text(&c.Listen.Admin, adminListener)},
		{"listen.metrics", field.Text(&c.Listen.Metrics, field.OrEmpty(metricsListener))},
		{"listen.metrics_token_file", field.Text(&c.Listen.MetricsTokenFile, field.OrEmpty(field.AbsolutePath))},

		{"store.node", field.Text(&c.Store.Node, field.OrEmpty(field.Domain))},
		{"store.max_subjects", field.Whole(&c.Store.MaxSubjects, 1, limit.MaxSends)},
		{"store.dir", field.Text(&c.Store.Dir, field.AbsolutePath)},
		{"store.url", storeURL{c, field.Text(&c.Store.URL, checkStoreURL)}},
		{"store.url_file", field.Text(&c.Store.URLFile, field.OrEmpty(field.AbsolutePath))},
		{"store.timeout", field.Duration(&c.Store.Timeout, time.Millisecond, 10*time.Second)},
		{"store.outage", field.Text(&c.Store.Outage, field.OneOf("share", "local", "open", "closed"))},
		{"store.nodes", field.Whole(&c.Store.Nodes, 1, 1000)},

		{"locks.dir", field.Text(&c.Locks.Dir, field.AbsolutePath)},

		{"exim.mainlog", field.Text(&c.Exim.Mainlog, field.OrEmpty(field.AbsolutePath))},
		{"exim.local_domains", field.List(&c.Exim.LocalDomains, localDomain)},
		{"exim.remote_transports", field.List(&c.Exim.RemoteTransports, glob)},
		{"exim.binary", field.Text(&c.Exim.Binary, field.AbsolutePath)},
		{"exim.spool_directory", field.Text(&c.Exim.SpoolDirectory, field.OrEmpty(field.AbsolutePath))},

		{"postfix.charge", field.Text(&c.Postfix.Charge, field.OneOf(ChargeAtRcpt, ChargeAtEnd))},
		{"postfix.local_domains", field.List(&c.Postfix.LocalDomains, localDomain)},
		{"postfix.log", field.Text(&c.Postfix.Log, field.OrEmpty(field.AbsolutePath))},

		{"identity.owners", field.Text(&c.Identity.Owners, field.OrEmpty(field.AbsolutePath))},
		{"identity.main_domains", field.Text(&c.Identity.MainDomains, field.OrEmpty(field.AbsolutePath))},
		{"identity.relay", relayList{&c.Identity.Relay}},
		{"identity.relay_domains", field.List(&c.Identity.RelayDomains, localDomain)},
		{"identity.proxies", field.List(&c.Identity.Proxies, field.NotEmpty)},
		{"identity.reinject", field.List(&c.Identity.Reinject, field.NotEmpty)},
		{"identity.system", field.List(&c.Identity.System, field.NotEmpty)},
		{"identity.exempt", exemptList{&c.Identity.Exempt}},

		{"panel.follow", field.Bool(&c.Panel.Follow)},
		{"panel.root", field.Text(&c.Panel.Root, field.AbsolutePath)},

		{"refusal.help", field.Text(&c.Refusal.Help, field.OrEmpty(link))},
		{"refusal.details", field.Text(&c.Refusal.Details, field.OneOf(DetailsAll, DetailsOperator))},

		{"who.memory", field.Bytes(&c.Who.Memory, 1<<20, 1<<40)},
		{"who.max_authors", field.Whole(&c.Who.MaxAuthors, 1000, 100_000_000)},
		{"who.subjects", field.Bool(&c.Who.Subjects)},

		{"spike.least", field.Whole(&c.Spike.Least, 1, limit.MaxSends)},
		{"spike.factor", field.Whole(&c.Spike.Factor, 1, 1000)},

		{"alert.from", field.Text(&c.Alert.From, field.OrEmpty(alertFrom))},
		{"alert.group_wait", field.Duration(&c.Alert.GroupWait, 0, time.Hour)},
		{"alert.repeat", field.Duration(&c.Alert.Repeat, time.Minute, 31*24*time.Hour)},
		{"alert.per_hour", field.Whole(&c.Alert.PerHour, 1, 1000)},
		{"alert.to", alertList{&c.Alert.To}},
		{"queue.warn", field.Whole(&c.Queue.Warn, 1, 100_000_000)},
		{"queue.max", field.Whole(&c.Queue.Max, 0, 100_000_000)},
		{"queue.purge_days", field.Whole(&c.Queue.PurgeDays, 0, 3650)},

		{"metrics.textfile", field.Text(&c.Metrics.Textfile, field.OrEmpty(field.AbsolutePath))},
		{"metrics.top", field.Whole(&c.Metrics.Top, 0, 1000)},

		{"clean.adapter", field.Text(&c.Clean.Adapter, field.OrEmpty(adapterName))},
		{"clean.hold_outgoing", field.Bool(&c.Clean.HoldOutgoing)},
		{"clean.web_users", field.List(&c.Clean.WebUsers, field.NotEmpty)},

		{"limits.window", field.Duration(&c.Limits.Window, ratelimit.MinWindow, ratelimit.MaxWindow)},
	}, keysOf(&c.Limits.Default, "limits.")...)
}

// A scopeKind is one of the tables under [limits].
type scopeKind struct {
	name   string
	scopes map[string]limit.Thresholds
	check  field.Check // for the name of a scope
}

func (c *Config) scopeKinds() []scopeKind {
	return []scopeKind{
		{"domain", c.Limits.Domain, field.Domain},
		{"account", c.Limits.Account, field.NotEmpty},
		{"mailbox", c.Limits.Mailbox, field.Mailbox},
	}
}

// localDomain checks an entry of domains.Follow's.
func localDomain(s string) (string, error) {
	rest, _ := strings.CutPrefix(s, "!")
	if path, lookup := domains.FileOf(rest); path != "" && rest[0] != '!' {
		return s[:len(s)-len(rest)] + lookup + filepath.Clean(path), nil
	}
	name, _ := strings.CutPrefix(rest, "*.")
	r, err := field.Domain(name)
	if err != nil {
		return "", fmt.Errorf(`%w or "*.example.com", or the absolute path of a file that lists such names`, err)
	}
	return s[:len(s)-len(name)] + r, nil
}

func glob(s string) (string, error) {
	if _, err := path.Match(s, ""); err != nil || s == "" {
		return "", errors.New(`a name, or a pattern like "*smtp*"`)
	}
	return s, nil
}

// adapterName allows what can be the name of a file that is not hidden.
func adapterName(s string) (string, error) {
	if strings.HasPrefix(s, ".") || strings.ContainsAny(s, "/\x00") {
		return "", errors.New(`"cpanel", "dovecot", "none", or the name of a program in /etc/sluice/adapters`)
	}
	return s, nil
}

// link allows what fits into one line of SMTP and is printed as it is.
func link(s string) (string, error) {
	const most = 200 // bytes
	u, err := url.Parse(s)
	odd := strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || odd || len(s) > most {
		return "", fmt.Errorf(`a link like "https://example.com/limits", of ASCII without blanks, %d bytes at most`, most)
	}
	return s, nil
}

// keysOf lists the keys of one scope with their fields.
func keysOf(t *limit.Thresholds, prefix string) (keys []configKey) {
	for _, name := range limit.Keys() {
		keys = append(keys, configKey{prefix + name, t.Field(name)})
	}
	return keys
}

// A configKey is one key of the file and the field that it sets.
type configKey struct {
	name  string // "store.timeout"
	value field.Value
}
