package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/identity"
	"sluice/sidecar/limit"
)

// DefaultPath is the file that is read unless another one is named.
const DefaultPath = "/etc/sluice/sluice.toml"

// A Config is what the configuration file says, on top of the built-in defaults. It is
// validated as a whole: every value is in range, and every name in canonical form. What
// each key may hold is in keys.go.
type Config struct {
	Listen struct {
		Policy    []Listener // where Exim and Postfix ask
		TokenFile string     // tokens of the clients of a policy listener on TCP
		Milter    []Listener
		Admin     Listener // where the commands ask; always a unix socket

		Metrics          Listener // where Prometheus asks; empty: only on Admin
		MetricsTokenFile string   // tokens for Metrics on TCP
	}
	Store struct {
		Node        string // empty: the host name
		MaxSubjects int64
		Dir         string
		URL         string // empty: it is in URLFile; see StoreURL
		URLFile     string
		Timeout     time.Duration
		Outage      string // what to do without Redis: share, local, open or closed
		Nodes       int64
	}
	Locks struct {
		Dir string
	}
	Exim struct {
		Mainlog          string
		LocalDomains     []string // see localDomain
		RemoteTransports []string // globs as path.Match has them
		Binary           string
		SpoolDirectory   string // of its queue; empty: as Exim says, or where packages have it
	}
	Postfix struct {
		Charge       string   // "rcpt" or "end-of-message"
		LocalDomains []string // as Exim.LocalDomains, and added to those
		Log          string   // where Postfix logs; empty: nowhere
	}
	Identity struct {
		Owners       string
		MainDomains  string
		Relay        []identity.Relay // hosts and networks that may send without AUTH
		RelayDomains []string         // as Exim.LocalDomains: this host is their MX, and passes their mail on
		Proxies      []string         // logins whose PROXY header is believed
		Reinject     []string         // logins of content filters
		System       []string         // logins beside root whose mail is the host's own
		Exempt       []identity.Exemption
	}
	Panel struct {
		Follow bool   // read the files of cPanel, DirectAdmin and CloudLinux where there are any
		Root   string // under which they are
	}
	Refusal struct {
		Help    string // a link for whoever is refused; empty for none
		Details string // DetailsAll or DetailsOperator
	}
	Who struct {
		Memory     int64 // bytes for what is known of who sends
		MaxAuthors int64
		Subjects   bool // tell by which subject an author sends most
	}
	Spike struct { // how much more than usual is one
		Least  int64 // sends of an author in an hour: fewer are none
		Factor int64 // times its busiest hour of the last 35 days
	}
	Alert struct {
		From      string        // sender of notices by mail; empty: see AlertSender
		GroupWait time.Duration // what is not critical is told when so long has passed
		Repeat    time.Duration // after so long an incident that is still open is told again
		PerHour   int64         // notices of a channel; as many again of what is critical
		To        []Channel
	}
	Metrics struct {
		Textfile string // directory of node_exporter in which metrics are written; empty: none
		Top      int64  // of so many domains it is told how much they send
	}
	Queue struct {
		Max  int64 // messages of Exim's queue of which more than their number is kept
		Warn int64 // messages that are warned of while less than a day is known of the queue

		PurgeDays int64 // after so many days in the quarantine, mail is removed for good; 0: never
	}
	Clean struct {
		WebUsers []string // logins of web servers, whose files below public_html may be disabled too
		Adapter  string   // by which logins are suspended; empty: the only one that the host has

		HoldOutgoing bool // cPanel is to hold what a suspended login sends
	}
	Limits Limits

	source
}

// source is where a Config was read.
type source struct {
	file    string            // empty: there is none
	origins map[string]string // key to "FILE:LINE", for what the file sets
}

// Limits are the thresholds of the file, by scope.
type Limits struct {
	Window  time.Duration               // the window of "hourly": 1h but in tests and trials
	Default limit.Thresholds            // complete: no field is nil
	Domain  map[string]limit.Thresholds // by lower-case A-label
	Account map[string]limit.Thresholds
	Mailbox map[string]limit.Thresholds // by address, lower-case, its domain as A-label
}

// Default returns the built-in configuration.
func Default() *Config {
	c := &Config{source: source{origins: make(map[string]string)}}

	c.Listen.Policy = []Listener{"unix:/run/sluice/policy.sock"}
	c.Listen.TokenFile = "/etc/sluice/token"
	c.Listen.Admin = "unix:/run/sluice/admin.sock"

	c.Store.MaxSubjects = 4_000_000
	c.Store.Dir = "/var/lib/sluice"
	c.Store.URL = Embedded
	c.Store.Timeout = 50 * time.Millisecond // several questions must fit into Exim's 300 ms
	c.Store.Outage = "share"
	c.Store.Nodes = 1

	c.Locks.Dir = "/var/cpanel/email_send_limits"

	c.Exim.Mainlog = "/var/log/exim4/mainlog"
	c.Exim.LocalDomains = []string{"/etc/localdomains"}
	c.Exim.RemoteTransports = []string{"*smtp*"}
	c.Exim.Binary = "/usr/sbin/exim"

	c.Postfix.Charge = ChargeAtRcpt

	c.Identity.Owners = "/etc/userdomains"
	c.Identity.MainDomains = "/etc/trueuserdomains"
	c.Identity.RelayDomains = []string{"/etc/secondarymx"} // cPanel's

	c.Panel.Follow = true
	c.Panel.Root = "/"

	c.Refusal.Details = DetailsAll

	c.Who.Memory = 64 << 20
	c.Who.MaxAuthors = 200_000
	c.Who.Subjects = true

	c.Spike.Least = 50 // with TestSpikeRule's false alarms
	c.Spike.Factor = 3

	c.Alert.GroupWait = 30 * time.Second // by then the log often names the culprit
	c.Alert.Repeat = 24 * time.Hour
	c.Alert.PerHour = 20
	c.Alert.To = defaultChannels()

	c.Queue.Max = 1_000_000
	c.Queue.Warn = 2000

	c.Limits.Window = time.Hour
	c.Limits.Default = limit.Thresholds{
		Hourly:           new(int64(500)),
		Daily:            new(int64(0)),
		DeferfailPercent: new(int64(25)),
		DeferfailMin:     new(int64(5)),
		DeferfailIgnore:  &[]sidecar.Cause{sidecar.Greylist},
		DeferCutoff:      new(int64(125)),
		Mode:             new(limit.Enforce),
		OverLimit:        new(limit.OverCutoff),
		Culprit:          new(limit.CulpritStop),
		OthersShare:      new(int64(25)),
		Spike:            new(limit.SpikeWatch),
		Expected:         new(int64(0)),
		Exempt:           new(false),
	}
	c.Limits.Domain = make(map[string]limit.Thresholds)
	c.Limits.Account = make(map[string]limit.Thresholds)
	c.Limits.Mailbox = make(map[string]limit.Thresholds)
	return c
}

// When Postfix's questions charge: postfix.charge.
const (
	ChargeAtRcpt = "rcpt"           // each recipient, when it is accepted
	ChargeAtEnd  = "end-of-message" // the whole message, at its end
)

// Who is told all of a refusal, files and nodes too: refusal.details.
const (
	DetailsAll      = "all"      // clients too
	DetailsOperator = "operator" // only the mail server's log
)

// ErrUnread is wrapped by errors about a configuration file that cannot be read.
var ErrUnread = errors.New("read configuration")

// Load reads and validates a configuration file. For path "" it reads DefaultPath, and
// returns the built-in configuration if there is no such file; one that is named must
// exist.
//
// An error names every mistake in the file, one a line, as "FILE:LINE: ...".
func Load(path string) (*Config, error) {
	name := cmp.Or(path, DefaultPath)
	text, err := readFile(name)
	if path == "" && errors.Is(err, fs.ErrNotExist) {
		return Default(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnread, err)
	}
	return Parse(name, string(text))
}

// Sockets reads where sluice listens from a configuration file that may have mistakes,
// which it returns as trouble.
func Sockets(path string) (policy []Listener, admin Listener, trouble, err error) {
	name := cmp.Or(path, DefaultPath)
	text, err := readFile(name)
	if err != nil && (path != "" || !errors.Is(err, fs.ErrNotExist)) {
		return nil, "", nil, fmt.Errorf("%w: %w", ErrUnread, err)
	}
	p := newParser(name)
	p.parse(string(text))
	return p.config.Listen.Policy, p.config.Listen.Admin, p.err(), nil
}

// maxFile is the largest configuration file in bytes: limits of half a million domains. A
// device that never ends would take all memory.
const maxFile = 64 << 20

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s has more than %d MB: it is no configuration file", name, maxFile>>20)
	}
	return text, err
}

// Parse validates the text of a configuration file. The name is only for errors and
// origins.
func Parse(name, text string) (*Config, error) {
	p := newParser(name)
	p.parse(text)
	if err := p.err(); err != nil {
		return nil, err
	}
	return p.config, nil
}

// Origin is where the value of a key comes from: "built-in", "FILE:LINE", "panel" for
// one that Assume has set, or what SetFromExim was told. Keys are written as in the file without quotes:
// "limits.hourly", "limits.domain.example.com.hourly".
func (c *Config) Origin(key string) string {
	return cmp.Or(c.origins[key], string(limit.LayerBuiltIn))
}

// originOf is the origin of a setting, of what Origin returns for a file's or no file's.
func originOf(place string) limit.Origin {
	if place == string(limit.LayerBuiltIn) {
		return limit.Origin{Layer: limit.LayerBuiltIn}
	}
	return limit.Origin{Layer: limit.LayerFile, Place: place}
}
