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
)

// checkScope checks a scope that an operator has typed. It warns if nothing is known of
// it, which may be right: a domain can be limited before it sends. If it has no dot
// either, and is not this host, it is an error.
func (o *Operator) checkScope(now time.Time, scope string) (warning string, err error) {
	if o.knows(now, scope) {
		return "", nil
	}
	domain := cmp.Or(envelope.DomainOf(scope), scope)
	if sidecar.IsDomain(domain) && !strings.Contains(domain, ".") {
		return "", fmt.Errorf("%s is no domain that is known here, and has no dot%s", domain, o.suggest(now, scope))
	}
	return fmt.Sprintf("nothing of %s is counted or limited so far, and nobody is known to own it%s", scope, o.suggest(now, scope)), nil
}

// knows reports whether anything is known of a scope: it is counted, limited, locked,
// held, blocked by the panel, local or owned.
func (o *Operator) knows(now time.Time, scope string) bool {
	s := o.settings.Load()
	_, stopped := s.PanelBlocks[scope]
	if stopped || scope == sidecar.DefaultScope || s.Scope(scope) != nil || len(o.store.Standing(o.clock.Store(now), scope).Windows) > 0 {
		return true
	}
	if account, is := strings.CutPrefix(scope, sidecar.AccountPrefix); is {
		return s.OwnerMap.Get().IsAccount(account)
	}
	if domain := envelope.DomainOf(scope); domain != "" {
		return o.knows(now, domain)
	}
	if sidecar.IsSpecial(scope) {
		who := s.PayerOfScope(scope)
		return scope == sidecar.System || scope == sidecar.Loopback || who.Domain != "" && o.knows(now, who.Domain) || o.holds.NumberIn(scope) > 0
	}
	return scope == s.Node || s.OwnerMap.Get().Account[scope] != "" || s.Locals.Get().Has(scope) ||
		len(o.dir.Files(scope)) > 0 || o.holds.NumberIn(scope) > 0
}

// maxCompared bounds how many names are compared with one that was typed.
const maxCompared = 100_000

// suggest returns "; did you mean NAME?" with the scope that was probably meant; or "".
func (o *Operator) suggest(now time.Time, scope string) string {
	s := o.settings.Load()
	names := map[string]bool{}
	for name := range s.Scopes() {
		names[name] = true
	}
	for domain, account := range s.OwnerMap.Get().Account {
		names[domain], names[sidecar.AccountPrefix+account] = true, true
	}
	o.store.Standings(o.clock.Store(now), func(st ratelimit.Standing) bool {
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
	return fmt.Sprintf("; did you mean %s?", sidecar.Printable(meant))
}
