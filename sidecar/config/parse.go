package config

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"sluice/sidecar/field"
	"sluice/sidecar/limit"
	"sluice/sidecar/typed"
)

// A configParser reads one file into a Config, and collects the mistakes in it.
type configParser struct {
	config   *Config
	file     string
	mistakes []configMistake
	lines    map[string]int // of the keys that are set
}

func newParser(file string) configParser {
	p := configParser{config: Default(), file: file, lines: make(map[string]int)}
	p.config.file = file
	return p
}

type configMistake struct {
	line int
	text string
}

func (p *configParser) mistake(line int, format string, args ...any) {
	p.mistakes = append(p.mistakes, configMistake{line, fmt.Sprintf(format, args...)})
}

func (p *configParser) err() error {
	slices.SortStableFunc(p.mistakes, func(a, b configMistake) int { return cmp.Compare(a.line, b.line) })
	var errs []error
	for _, m := range p.mistakes {
		errs = append(errs, fmt.Errorf("%s:%d: %s", p.file, m.line, m.text))
	}
	return errors.Join(errs...)
}

// quoted matches what the TOML library's errors repeat of the file, except single
// characters and bare keys. It is replaced, because where a quote is missing in the file,
// it may be a part of a password.
var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|\b[0-9]{5,}`)

func (p *configParser) parse(text string) {
	tree, err := parseTOML(text)
	var bad toml.ParseError
	if errors.As(err, &bad) {
		p.mistake(bad.Position.Line, "not valid TOML: %s", quoted.ReplaceAllString(bad.Message, `"..."`))
		return
	}
	if err != nil {
		p.mistake(1, "not valid TOML: %s", quoted.ReplaceAllString(err.Error(), `"..."`))
		return
	}
	for _, section := range tree.children {
		p.section(section)
	}
	p.storeURL()
	p.metricsToken()
}

// metricsToken checks that metrics on TCP, where every local user can ask, need a token.
func (p *configParser) metricsToken() {
	if l := &p.config.Listen; l.Metrics.Network() == "tcp" && l.MetricsTokenFile == "" {
		p.mistake(p.lines["listen.metrics"], "listen.metrics is on TCP, where any user of this host can ask: set listen.metrics_token_file too, "+
			"to a file of root's (openssl rand -hex 16 >FILE; chmod 0600 FILE), or take a unix socket")
	}
}

// storeURL checks that store.url is not empty, and not set beside store.url_file.
func (p *configParser) storeURL() {
	store := &p.config.Store
	line, set := p.lines["store.url"]
	switch {
	case store.URLFile == "" && set && store.URL == "":
		p.mistake(line, "store.url is empty; leave it out, or set store.url_file")
	case store.URLFile == "":
	case set && store.URL != "":
		p.mistake(line, "store.url and store.url_file, in line %d, are both there; take one out", p.lines["store.url_file"])
	default:
		store.URL = ""
		p.config.origins["store.url"] = store.URLFile
	}
}

// section parses one of the tables at the top of the file.
func (p *configParser) section(s *tomlNode) {
	var sections []string
	values := make(map[string]field.Value)
	for _, k := range p.config.keys() {
		values[k.name] = k.value
		if name, _, _ := strings.Cut(k.name, "."); !slices.Contains(sections, name) {
			sections = append(sections, name)
		}
	}
	if !slices.Contains(sections, s.name) {
		p.unknown(s, "", sections)
		return
	}
	if !s.table {
		p.mistake(s.line, "%s must be a table, written [%s]", s.name, s.name)
		return
	}
	kinds := p.config.scopeKinds()
	for _, n := range s.children {
		value, ok := values[s.name+"."+n.name]
		kind := slices.IndexFunc(kinds, func(k scopeKind) bool { return s.name == "limits" && n.name == k.name })
		switch {
		case ok:
			p.set(s.name+"."+n.name, value, n)
		case kind >= 0:
			p.scopes(kinds[kind], n)
		default:
			p.unknown(n, s.name, p.keysOf(s.name))
		}
	}
}

func (p *configParser) set(key string, value field.Value, n *tomlNode) {
	p.lines[key] = n.line
	switch err := value.Set(n.value); {
	case err == nil:
	case secret(value):
		p.mistake(n.line, "%s: %v", key, err)
		return
	default:
		is := fmt.Sprintf(" is %s, it", field.TOML(n.value))
		if _, tables := n.value.([]map[string]any); tables { // they are, and one of them is not good
			is = ""
		}
		p.mistake(n.line, "%s", withoutURLs(n.value, fmt.Sprintf("%s%s must be %v", key, is, err)))
		return
	}
	p.config.origins[key] = fmt.Sprintf("%s:%d", p.file, n.line)
}

// scopes parses [limits.domain], [limits.account] or [limits.mailbox].
func (p *configParser) scopes(kind scopeKind, n *tomlNode) {
	lines := make(map[string]int)
	for _, s := range n.children {
		prefix := "limits." + kind.name
		name, err := kind.check(s.name)
		if err != nil {
			p.mistake(s.line, "%s", withoutURLs(s.name, fmt.Sprintf("in [%s.%s] the name must be %v", prefix, field.QuoteTOML(s.name), err)))
			continue
		}
		if !s.table {
			p.mistake(s.line, `%s.%s must be a table, written [%s."NAME"]`, prefix, s.name, prefix)
			continue
		}
		if first, ok := lines[name]; ok {
			p.mistake(s.line, "%s %s was given before, in line %d", kind.name, name, first)
			continue
		}
		lines[name] = s.line
		kind.scopes[name] = p.thresholds(prefix, name, s)
	}
	if !n.table {
		p.mistake(n.line, `limits.%s must be a table, written [limits.%s."NAME"]`, kind.name, kind.name)
	}
}

// thresholds parses the keys of one scope.
func (p *configParser) thresholds(prefix, name string, s *tomlNode) limit.Thresholds {
	var t limit.Thresholds
	for _, n := range s.children {
		value := t.Field(n.name)
		switch err := typed.CheckScope(name, n.name); {
		case prefix == "limits.mailbox" && err != nil:
			p.mistake(n.line, "%v", err)
		case value != nil:
			p.set(prefix+"."+name+"."+n.name, value, n)
		case n.table:
			// Without quotes [limits.domain.example.com] is a table com in a table example.
			p.mistake(n.line, `[%s.%s.%s]: a name with dots stands in quotes, as [%s."%s.%s"]`,
				prefix, s.name, n.name, prefix, s.name, n.name)
		default:
			p.unknown(n, prefix+"."+field.QuoteTOML(s.name), limit.Keys())
		}
	}
	return t
}

// keysOf lists the keys of a section, without its name.
func (p *configParser) keysOf(section string) []string {
	var keys []string
	for _, k := range p.config.keys() {
		if key, ok := strings.CutPrefix(k.name, section+"."); ok {
			keys = append(keys, key)
		}
	}
	if section == "limits" {
		for _, kind := range p.config.scopeKinds() {
			keys = append(keys, kind.name)
		}
	}
	return keys
}

// unknown reports a key that does not exist, and suggests another one.
func (p *configParser) unknown(n *tomlNode, section string, known []string) {
	what, where := "key", " in ["+section+"]"
	if section == "" {
		where = " outside of any section"
	}
	if n.table {
		what, where = "section", ""
		if section != "" {
			where = " under [" + section + "]"
		}
	}
	hint := field.Suggest(n.name, known)
	if instead := replaced[section+"."+n.name]; instead != "" {
		hint = instead
	}
	if home := p.homeOf(n.name); home != "" && home != section && field.Nearest(n.name, known) == "" {
		hint = fmt.Sprintf("it belongs in [%s]", home)
	}
	p.mistake(n.line, "unknown %s %s%s; %s", what, withoutURLs(n.name, field.QuoteTOML(n.name)), where, hint)
}

// replaced are keys that files of earlier versions have, and what stands in their place.
var replaced = map[string]string{
	"identity.exempt_senders": "anybody can write a sender, so [[identity.exempt]] with sender = and login, auth or host = has taken its place",
	"listen.http":             "metrics are on the admin socket and on listen.metrics, and no page is served, so take it out",
}

// homeOf finds the section of a key; empty if there is no such key.
func (p *configParser) homeOf(key string) string {
	for _, k := range p.config.keys() {
		if section, name, _ := strings.Cut(k.name, "."); name == key {
			return section
		}
	}
	return ""
}
