package limit

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/field"
)

// ErrNotFound is wrapped by errors about a domain or scope of which nothing is
// counted, held or locked.
var ErrNotFound = errors.New("not found")

// A Layer is where thresholds are set.
type Layer string

// The layers, the lowest first: within a scope, the highest that sets a key wins.
const (
	LayerBuiltIn Layer = "built-in"
	LayerFile    Layer = "file"  // sluice.toml
	LayerPanel   Layer = "panel" // the files of a hosting panel
	LayerLive    Layer = "live"  // sluice set
)

// A Setting is one threshold of one scope, as one layer has it.
type Setting struct {
	Scope string `json:"scope"` // as CanonicalScope returns it
	Key   string `json:"key"`   // as under [limits] in the file
	Value any    `json:"value"` // an int64, a bool, a string or a []string
	Origin
}

// An Origin says who has set a threshold, and where.
type Origin struct {
	Layer  Layer     `json:"layer"`
	Place  string    `json:"place,omitempty"`  // FILE:LINE, for the layers file and panel
	Who    string    `json:"who,omitempty"`    // this and the rest are for the layer live
	At     time.Time `json:"at,omitzero"`      // when it was set
	Until  time.Time `json:"until,omitzero"`   // when it expires; zero: never
	Why    string    `json:"why,omitempty"`    // in the words of who set it
	Change int64     `json:"change,omitempty"` // its number in the history
}

// String is the origin as refusals, status and explain show it.
func (o Origin) String() string {
	if o.Layer == LayerLive {
		return fmt.Sprintf("sluice set by %s at %s", o.Who, o.At.Format(time.DateTime+" -0700"))
	}
	return cmp.Or(o.Place, string(o.Layer))
}

// BuiltIn is the place of a value that no file sets.
const BuiltIn = "built-in"

// OriginOf is the origin of a value of the configuration: place is BuiltIn or FILE:LINE.
func OriginOf(place string) Origin {
	if place == BuiltIn {
		return Origin{Layer: LayerBuiltIn}
	}
	return Origin{Layer: LayerFile, Place: place}
}

// ParseSettings parses the arguments of `sluice set`: a scope, and each KEY=VALUE. Its
// error is for the operator, about the first mistake.
func ParseSettings(scope string, assignments []string) (canonical string, all []Setting, err error) {
	if canonical, err = SettableScope(scope); err != nil {
		return "", nil, err
	}
	if len(assignments) == 0 {
		return "", nil, fmt.Errorf("nothing to set: name a key and its value, like hourly=2000; keys: %s", strings.Join(Keys(), ", "))
	}
	for _, a := range assignments {
		key, text, found := strings.Cut(a, "=")
		if !found {
			return "", nil, fmt.Errorf("%q must be KEY=VALUE, like hourly=2000", a)
		}
		s, err := NewSetting(canonical, key, text, Origin{})
		if err != nil {
			return "", nil, err
		}
		if slices.ContainsFunc(all, func(o Setting) bool { return o.Key == key }) {
			return "", nil, fmt.Errorf("%s is given twice", key)
		}
		all = append(all, s)
	}
	return canonical, all, nil
}

// NewSetting makes a setting of a text, of the command line or a panel's file.
func NewSetting(scope, key, text string, o Origin) (Setting, error) {
	var t Thresholds
	value, err := t.Key(key)
	if err != nil {
		return Setting{}, err
	}
	if err := CheckScope(scope, key); err != nil {
		return Setting{}, err
	}
	if text = strings.TrimSpace(text); IsLimit(key) && text == Unlimited {
		text = "0"
	}
	if err := value.Set(value.Typed(text)); err != nil {
		return Setting{}, fmt.Errorf("%s is %s, it must be %w", key, field.QuoteTOML(text), err)
	}
	return Setting{scope, key, value.Get(), o}, nil
}

// Unlimited is how a limit of 0 is shown, and may be typed.
const Unlimited = "unlimited"

// IsLimit reports whether a key is a number of sends in a window.
func IsLimit(key string) bool { return key == "hourly" || key == "daily" }

// Key is Field, but for an unknown name it returns an error that suggests a key, not nil.
func (t *Thresholds) Key(name string) (field.Value, error) {
	if value := t.Field(name); value != nil {
		return value, nil
	}
	return nil, fmt.Errorf("unknown key %q; %s", name, field.Suggest(name, Keys()))
}

// CanonicalDomain returns a domain name as subjects and lock files have it:
// lower-case, as A-label.
func CanonicalDomain(s string) (string, error) {
	domain, err := field.Domain(s)
	if err != nil {
		return "", fmt.Errorf("%q must be %w", s, err)
	}
	return domain, nil
}

// SettableScope is CanonicalScope for all that settings may be for: authors that nobody is
// charged for, too, by their keys. Only their expected can be set.
func SettableScope(s string) (string, error) {
	if isAuthor(s) && sidecar.AuthorKey("", s) == s {
		return s, nil
	}
	return CanonicalScope(s)
}

// isAuthor reports whether a scope is that of a script or a login.
func isAuthor(scope string) bool {
	for _, prefix := range [...]string{sidecar.ScriptPrefix, sidecar.LoginPrefix} {
		if name, is := strings.CutPrefix(scope, prefix); is && name != "" {
			return true
		}
	}
	return false
}

// prefixed are the scopes that are named by a prefix and what follows it.
var prefixed = []struct {
	prefix, what string
	check        field.Check
}{
	{sidecar.AccountPrefix, "the account", field.NotEmpty},
	{sidecar.ServicePrefix, "the login", field.NotEmpty},
	{sidecar.WebPrefix, "the account", field.NotEmpty},
	{sidecar.ForwardPrefix, "the domain", field.Domain},
	{sidecar.RelayPrefix, "the client", relayed},
}

// relayed is a Check for the client of a relay: its address, or for IPv6 its network.
func relayed(s string) (string, error) {
	address, _ := strings.CutSuffix(s, "/64")
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return "", errors.New(`an address like "192.0.2.1", or "2001:db8::/64"`)
	}
	return strings.TrimPrefix(sidecar.RelayOf(ip), sidecar.RelayPrefix), nil
}

// CanonicalScope returns the canonical form of a scope: "default", "example.com",
// "account:bob", "news@example.com", or that of a special subject.
func CanonicalScope(s string) (string, error) {
	if s == sidecar.DefaultScope || s == sidecar.System || s == sidecar.Loopback {
		return s, nil
	}
	for _, p := range prefixed {
		if name, ok := strings.CutPrefix(s, p.prefix); ok && !sidecar.IsMailbox(s) {
			name, err := p.check(name)
			if err != nil {
				return "", fmt.Errorf("scope %q: %s must be %w", s, p.what, err)
			}
			return p.prefix + name, nil
		}
	}
	check := field.Domain
	if strings.Contains(s, "@") {
		check = field.Mailbox
	}
	canonical, err := check(s)
	if err != nil {
		return "", fmt.Errorf(`scope %q must be "default", "example.com", "account:bob" or "news@example.com"; or "system", "loopback", "service:www-data", "relay:192.0.2.1", "forward:example.com" or "web:bob"`, s)
	}
	return canonical, nil
}
