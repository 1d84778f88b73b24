package operator

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/field"
	"sluice/sidecar/hold"
	"sluice/sidecar/live"
	"sluice/sidecar/lockfile"
	"sluice/sidecar/printable"
	"sluice/sidecar/typed"
)

// scopes tell a scope that is known from one that is not, and which one was meant.
type scopes struct {
	settings *live.Live
	store    Store
	clock    ratelimit.Clock
	dir      lockfile.Dir
	holds    *hold.Holds
}

const letters = "abcdefghijklmnopqrstuvwxyz"

// check checks a scope that an operator has typed. It warns if nothing is known of
// it, which may be right: a domain can be limited before it sends. If it has no dot
// either, and is not this host, or has no letter in its last part, it is an error.
func (x *scopes) check(now time.Time, scope string) (warning string, err error) {
	if x.knows(now, scope) {
		return "", nil
	}
	domain := cmp.Or(envelope.DomainOf(scope), scope)
	switch {
	case !sidecar.IsDomain(domain):
	case !strings.Contains(domain, "."):
		return "", fmt.Errorf("%s is no domain that is known here, and has no dot%s", domain, x.suggest(now, scope))
	case !strings.ContainsAny(domain[strings.LastIndexByte(domain, '.'):], letters): // RFC 3696, section 2
		return "", fmt.Errorf("%s is no domain that is known here, and ends like an address; a host that may relay has limits as relay:%[1]s, and `sluice stop client:%[1]s` stops it", domain)
	}
	return fmt.Sprintf("nothing of %s is counted or limited so far, and nobody is known to own it%s", scope, x.suggest(now, scope)), nil
}

// knows reports whether anything is known of a scope: it is counted, limited, locked,
// held, blocked by the panel, local or owned.
func (x *scopes) knows(now time.Time, scope string) bool {
	s := x.settings.Load()
	_, stopped := s.PanelBlocks[scope]
	if stopped || scope == sidecar.DefaultScope || s.Scope(scope) != nil || len(x.store.Standing(x.clock.Store(now), scope).Windows) > 0 {
		return true
	}
	if account, is := strings.CutPrefix(scope, sidecar.AccountPrefix); is {
		return s.OwnerMap.Get().IsAccount(account)
	}
	if domain := envelope.DomainOf(scope); domain != "" {
		return x.knows(now, domain)
	}
	if sidecar.IsSpecial(scope) {
		who := s.PayerOfScope(scope)
		return scope == sidecar.System || scope == sidecar.Loopback || who.Domain != "" && x.knows(now, who.Domain) || x.holds.NumberIn(scope) > 0
	}
	return scope == s.Node || s.OwnerMap.Get().Account[scope] != "" || s.Locals.Get().Has(scope) ||
		len(x.dir.Files(scope)) > 0 || x.holds.NumberIn(scope) > 0
}

// maxCompared bounds how many names are compared with one that was typed.
const maxCompared = 100_000

// suggest returns "; did you mean NAME?" with the scope that was probably meant; or "".
func (x *scopes) suggest(now time.Time, scope string) string {
	s := x.settings.Load()
	names := map[string]bool{}
	for name := range s.Scopes() {
		names[name] = true
	}
	for domain, account := range s.OwnerMap.Get().Account {
		names[domain], names[sidecar.AccountPrefix+account] = true, true
	}
	x.store.Standings(x.clock.Store(now), func(st ratelimit.Standing) bool {
		names[st.Name] = true
		return len(names) < maxCompared
	})
	delete(names, sidecar.DefaultScope)
	delete(names, scope)
	sorted := slices.Sorted(maps.Keys(names))
	meant := field.Nearest(scope, sorted)
	if field.EditDistance(scope, meant) > 2 { // most domains are that much alike
		meant = ""
	}
	// Perhaps something was left out: the end of the domain, or "account:".
	if i := slices.IndexFunc(sorted, func(name string) bool { return strings.HasPrefix(name, scope+".") }); i >= 0 {
		meant = sorted[i]
	}
	if names[sidecar.AccountPrefix+scope] {
		meant = sidecar.AccountPrefix + scope
	}
	if meant == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", printable.Of(meant))
}

// nobodySends returns the error about a scope of which nobody has sent anything. It may be
// locked, counted from before or held all the same.
func (x *scopes) nobodySends(now time.Time, scope string) error {
	meant := ""
	if !x.knows(now, scope) {
		meant = x.suggest(now, scope)
	}
	return fmt.Errorf("%w: nobody has tried to send anything of it in the last hour%s", typed.ErrNotFound, meant)
}

// notFound returns the error about a scope of which nothing is known, with the one that
// was probably meant.
func (x *scopes) notFound(now time.Time, scope string) error {
	if sidecar.AlwaysCounted(scope) {
		return fmt.Errorf("%w: nothing of it is counted, locked or held%s", typed.ErrNotFound, x.suggest(now, scope))
	}
	return fmt.Errorf("%w: nothing of it is counted or held; mailboxes and accounts are counted from when a limit names them%s", typed.ErrNotFound, x.suggest(now, scope))
}
