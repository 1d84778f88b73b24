package sidecar

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"sluice/ratelimit"
)

// keys are all keys but those of single domains, accounts and mailboxes, in
// the order in which `sluice config` prints them.
func (c *Config) keys() []configKey {
	return append([]configKey{
		{"listen.policy", listOf(&c.Listen.Policy, policyListener)},
		{"listen.milter", listOf(&c.Listen.Milter, policyListener)},
		{"listen.token_file", textOf(&c.Listen.TokenFile, absolutePath)},
		{"listen.admin", textOf(&c.Listen.Admin, adminListener)},
		{"listen.http", textOf(&c.Listen.HTTP, optional(loopbackAddress))},

		{"store.node", textOf(&c.Store.Node, optional(configDomain))},
		{"store.max_subjects", wholeOf(&c.Store.MaxSubjects, 1, maxSends)},
		{"store.dir", textOf(&c.Store.Dir, absolutePath)},
		{"store.url", textOf(&c.Store.URL, storeURL)},
		{"store.timeout", durationOf(&c.Store.Timeout, time.Millisecond, 10*time.Second)},
		{"store.outage", textOf(&c.Store.Outage, oneOf("share", "local", "open", "closed"))},
		{"store.nodes", wholeOf(&c.Store.Nodes, 1, 1000)},

		{"locks.dir", textOf(&c.Locks.Dir, absolutePath)},

		{"exim.mainlog", textOf(&c.Exim.Mainlog, optional(absolutePath))},
		{"exim.local_domains", listOf(&c.Exim.LocalDomains, localDomain)},
		{"exim.remote_transports", listOf(&c.Exim.RemoteTransports, glob)},
		{"exim.binary", textOf(&c.Exim.Binary, absolutePath)},

		{"postfix.charge", textOf(&c.Postfix.Charge, oneOf(ChargeAtRcpt, ChargeAtEnd))},
		{"postfix.local_domains", listOf(&c.Postfix.LocalDomains, localDomain)},
		{"postfix.log", textOf(&c.Postfix.Log, optional(absolutePath))},

		{"identity.owners", textOf(&c.Identity.Owners, optional(absolutePath))},
		{"identity.main_domains", textOf(&c.Identity.MainDomains, optional(absolutePath))},
		{"identity.relay", listOf(&c.Identity.Relay, addressOrNetwork)},
		{"identity.exempt_senders", listOf(&c.Identity.ExemptSenders, mailboxOrDomain)},

		{"panel.follow", boolOf(&c.Panel.Follow)},
		{"panel.root", textOf(&c.Panel.Root, absolutePath)},

		{"limits.window", durationOf(&c.Limits.Window, ratelimit.MinWindow, ratelimit.MaxWindow)},
	}, keysOf(&c.Limits.Default, "limits.")...)
}

// A scopeKind is a table of scopes under [limits].
type scopeKind struct {
	name   string
	scopes map[string]Thresholds
	check  textCheck // the name of a scope, made canonical
}

func (c *Config) scopeKinds() []scopeKind {
	return []scopeKind{
		{"domain", c.Limits.Domain, configDomain},
		{"account", c.Limits.Account, notEmpty},
		{"mailbox", c.Limits.Mailbox, mailbox},
	}
}

func localDomain(s string) (string, error) {
	if strings.HasPrefix(s, "/") {
		return absolutePath(s)
	}
	name, wild := strings.CutPrefix(s, "*.")
	r, err := configDomain(name)
	if err != nil {
		return "", fmt.Errorf(`%w or "*.example.com", or the absolute path of a file that lists such names`, err)
	}
	if wild {
		return "*." + r, nil
	}
	return r, nil
}

func mailboxOrDomain(s string) (string, error) {
	if strings.Contains(s, "@") {
		return mailbox(s)
	}
	r, err := configDomain(s)
	if err != nil {
		return "", fmt.Errorf(`%w, or an address like "news@example.com"`, err)
	}
	return r, nil
}

func glob(s string) (string, error) {
	if _, err := path.Match(s, ""); err != nil || s == "" {
		return "", errors.New(`a name, or a pattern like "*smtp*"`)
	}
	return s, nil
}

// addressOrNetwork takes no host names: each question would wait for the
// resolver, and who runs it would say who may send.
func addressOrNetwork(s string) (string, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.String(), nil
	}
	if n, err := netip.ParsePrefix(s); err == nil {
		return n.Masked().String(), nil
	}
	return "", errors.New(`an address or a network like "192.0.2.1" or "192.0.2.0/24"`)
}

func storeURL(s string) (string, error) {
	u, err := url.Parse(s)
	switch {
	case s == "embedded:":
		return s, nil
	case err != nil:
	case u.Scheme == "unix" && u.Host == "" && u.Path != "",
		u.Host != "" && slices.Contains([]string{"redis", "rediss", "redis-sentinel", "redis-cluster"}, u.Scheme):
		return s, nil
	}
	return "", errors.New(`"embedded:", or a URL that begins with redis://, rediss://, unix://, redis-sentinel:// or redis-cluster://`)
}

// keysOf are the keys of one scope with their fields.
func keysOf(t *Thresholds, prefix string) (keys []configKey) {
	for _, name := range thresholdKeys() {
		keys = append(keys, configKey{prefix + name, t.field(name)})
	}
	return keys
}

// A configKey is one key of the file and the field that it sets.
type configKey struct {
	name  string // "store.timeout"
	value configValue
}
