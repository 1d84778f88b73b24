package config

import (
	"math"
	"strings"

	"sluice/sidecar/field"
)

// A Description is what operators must know of a key, for the manual.
type Description struct {
	Key     string
	What    string // what it is, with its unit
	Allowed string // which values it may have, as the rest of a sentence that ends in "must be"
	Default string // in TOML
	Restart bool   // a new value is in force only after a restart
}

// Describe describes all keys, in the order in which `sluice config` prints them.
func Describe() (all []Description) {
	for _, k := range Default().keys() {
		d := Description{Key: k.name, What: what[k.name], Default: field.TOML(k.value.Get()), Restart: !isFollowed(k.name)}
		d.Allowed = allowed(k.value)
		all = append(all, d)
	}
	return all
}

// allowed says which values a key may have: it sets the key to one that none may have.
func allowed(v field.Value) string {
	var none any = struct{}{}
	switch v.Get().(type) {
	case string:
		none = "\x00"
	case int64:
		none = int64(math.MinInt64)
	case []string:
		if err := v.Set([]any{"\x00"}); err != nil {
			text, _, _ := strings.Cut(err.Error(), "; ") // and which of the list is not so
			return text
		}
	}
	if err := v.Set(none); err != nil {
		return strings.TrimPrefix(err.Error(), "it must be ")
	}
	return "a text"
}

// what each key is.
var what = map[string]string{
	"listen.policy":             "Where Exim and Postfix ask.",
	"listen.milter":             "Where Sendmail and Postfix ask by the milter protocol.",
	"listen.token_file":         "File with the token that who asks over TCP has to know.",
	"listen.admin":              "Where the commands of sluice ask; root only.",
	"listen.metrics":            "Where Prometheus asks; empty for nowhere but listen.admin.",
	"listen.metrics_token_file": "File with the token that Prometheus has to send over TCP.",

	"store.node":         "The name of this node, unique among those that share their counts; empty for the host's.",
	"store.max_subjects": "So many domains, accounts and mailboxes are counted at most; new ones beyond them pass uncounted, and status says so.",
	"store.dir":          "Directory of the ledger.",
	"store.url":          "Where counts are: embedded:, or the Redis that nodes share: redis://, rediss://, redis-sentinel://, redis-cluster://.",
	"store.url_file":     "File of mode 0600 with the store.url, for one with a password.",
	"store.timeout":      "How long one call of Redis may take; several have to fit into the 300 ms that Exim waits.",
	"store.outage":       "What happens while Redis is away: share (each node its part), local (each up to the limit), open (all passes), closed (all is deferred).",
	"store.nodes":        "How many nodes share the Redis.",

	"locks.dir": "Directory of the lock files, the same as SLUICE_LOCKS in Exim's configuration.",

	"exim.mainlog":           "Exim's main log, in which stands what became of the mail; empty for none. If the file does not set it, it is what Exim says: its log_file_path.",
	"exim.local_domains":     "What Exim delivers itself, which is never counted: domains, files with one a line, directories with a file of each name; with a ! in front, exceptions. With lsearch; or dsearch; in front of a path, its names are no wildcards, as in Exim. If the file does not set it, it is what Exim says: its list local_domains.",
	"exim.remote_transports": "Names of the transports by which mail leaves the host; a * stands for any text.",
	"exim.binary":            "The program Exim.",
	"exim.spool_directory":   "Directory of Exim's queue, its spool_directory; empty: Exim is asked, or it is where packages have it.",

	"postfix.charge":        "When a send is charged: each recipient at rcpt, or the whole message at its end.",
	"postfix.local_domains": "What Postfix delivers itself, beside exim.local_domains.",
	"postfix.log":           "Postfix's log; empty for none.",

	"identity.owners":        "File with the account of each domain, a line domain: account; empty for none.",
	"identity.main_domains":  "File with the main domain of each account; empty for none.",
	"identity.relay":         "Hosts and networks that may send without AUTH in their sender's name. If the file does not set it, those for which Exim says that it relays.",
	"identity.relay_domains": "Domains for which this host is a backup MX or a gateway, or files that list them: mail to them is charged to nobody. If the file does not set it, those that Exim says.",
	"identity.proxies":       "Logins of this host whose PROXY header is believed.",
	"identity.reinject":      "Logins of content filters, which send again what has come in before.",
	"identity.system":        "Logins beside root whose mail is the host's own.",
	"identity.exempt":        "Senders for whom nobody is charged, each with who may send so.",

	"panel.follow": "Whether the limits, holds and suspensions in the files of cPanel, DirectAdmin and CloudLinux are followed.",
	"panel.root":   "Directory in which the files of the panel are.",

	"refusal.help":    "A link that stands in every refusal, for whoever reads it; empty for none.",
	"refusal.details": "Who reads which file has a limit, and on which node: all, or operator (only in Exim's log).",

	"who.memory":      "Memory for what is known of who sends; beyond it, names are left out of the domains that were quiet for the longest.",
	"who.max_authors": "So many senders are known by name at most.",
	"who.subjects":    "Whether the subject by which somebody sends most is shown.",

	"alert.from":          "The sender of notices by mail; empty for sluice@ and the name of the node.",
	"alert.group_wait":    "How long a notice that is not critical waits for more of the same.",
	"alert.repeat":        "After so long an incident that is still open is told again.",
	"alert.per_hour":      "Notices of each channel in an hour, and as many again of what is critical; the rest come as one digest.",
	"alert.to":            "Who is told of incidents: mail, webhook or exec each.",
	"spike.least":         "Sends in an hour up to which nobody has a spike.",
	"spike.factor":        "Who sends so many times as much in an hour as in any hour of the last 35 days has a spike.",
	"clean.adapter":       "How logins are suspended: cpanel, dovecot, none, or the name of a program in /etc/sluice/adapters; empty: the one that fits this host.",
	"clean.hold_outgoing": "Whether cPanel is to hold what a suspended login sends, beside the stop; undo releases it.",
	"clean.web_users":     "Logins as whom web servers run scripts: sluice script takes their files below public_html for the account's.",
	"queue.warn":          "Messages in Exim's queue at which it is told while its history is shorter than a day.",
	"queue.max":           "Messages in Exim's queue that are known one by one.",
	"queue.purge_days":    "After so many days in the quarantine mail is removed for good; 0: never.",

	"metrics.textfile": "Directory of node_exporter in which sluice.prom is written every 15 seconds; empty for none.",
	"metrics.top":      "Of so many of the busiest domains metrics tell the sends by name.",

	"limits.window":            "The window of hourly: an hour, but in tests and trials.",
	"limits.hourly":            "Recipients in an hour, of each domain; 0 is unlimited.",
	"limits.daily":             "Recipients in a day, of each domain; 0 is unlimited.",
	"limits.deferfail_percent": "A domain is refused when this percentage of its recipients in an hour was deferred or failed; 0 is off.",
	"limits.deferfail_min":     "Recipients that have to be deferred or failed in an hour before deferfail_percent counts.",
	"limits.deferfail_ignore":  "Causes of defers and failures that are shown and not held against the domain.",
	"limits.defer_cutoff":      "Percentage of a limit from which on 450 becomes 550.",
	"limits.mode":              "enforce, or watch: count what would be refused, and refuse nothing.",
	"limits.over_limit":        "Over a limit: cutoff (450, then 550), defer (450), reject (550) or discard.",
	"limits.culprit":           "What happens to who sends more than its usual hour: stop, name or off.",
	"limits.others_share":      "Percentage of the hourly limit, at most, that such a sender leaves to the others of the domain; 0 is off.",
	"limits.spike":             "Whether who sends far more than usual is told of: watch or off.",
	"limits.expected":          "Sends in an hour that are expected of it, of which nobody is told; 0 for none.",
	"limits.exempt":            "Nobody is charged.",
}
