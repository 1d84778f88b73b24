package identity

import (
	"cmp"

	"sluice/sidecar"
	"sluice/sidecar/domains"
	"sluice/sidecar/envelope"
)

// authorOf finds who sends a message from a source, for which who pays unless it is
// redirected.
func (s *Rules) authorOf(from source, who sidecar.Payer, r *sidecar.Request) sidecar.Author {
	switch {
	case who.Mailbox != "":
		return sidecar.Author{Key: sidecar.AuthorKey("", who.Mailbox), Proof: sidecar.Proven, Account: who.Account}
	case from.origin == byRelay && who.Special != sidecar.Loopback:
		return sidecar.Author{Key: sidecar.ClientPrefix + sidecar.NetworkOf(from.client), Proof: sidecar.Proven}
	case from.origin == byRelay, from.origin == byLoopback:
		return sidecar.Author{Key: sidecar.Loopback}
	case from.origin == byAuth, from.origin == byLogin:
		return s.authorOfLogin(from, who, r)
	case Redirected(r) != "": // a stranger chooses what is sent, but the forwarder lets him
		original := envelope.FoldRouted(r.Original)
		return sidecar.Author{Key: sidecar.AuthorKey(sidecar.ForwardPrefix, original.String()), Proof: sidecar.Proven,
			Account: s.OwnerMap.Get().Account[original.Domain]}
	}
	return sidecar.Author{}
}

// authorOfLogin is who of a login's programs sends: the script, by the directory in which it
// runs sendmail. A directory is only claimed, so that of an account speaks only for the
// account itself, or where the login is no account's, like that of a web server.
func (s *Rules) authorOfLogin(from source, who sidecar.Payer, r *sidecar.Request) sidecar.Author {
	owners := s.OwnerMap.Get()
	login := cmp.Or(owners.FoldLogin(from.id), unknownLogin)
	runs := from.origin == byLogin && r.ClientAddress == "" && r.CWD != "" && who.Special != sidecar.System
	home := owners.AccountAt(r.CWD)
	switch {
	case runs && owners.Known() && home != "" && (home == login || who.Account == home && !owners.IsAccount(login)),
		runs && !owners.Known() && r.CWD != "/":
		return sidecar.Author{Key: sidecar.AuthorKey(sidecar.ScriptPrefix, r.CWD), Proof: sidecar.Claimed, Account: home, Login: named(owners, login, who).Key}
	}
	return named(owners, login, who)
}

// named is a login as an author.
func named(o *domains.Owners, login string, who sidecar.Payer) sidecar.Author {
	switch {
	case o.IsAccount(login):
		return sidecar.Author{Key: sidecar.AuthorKey(sidecar.LoginPrefix, login), Proof: sidecar.Proven, Account: login}
	case o.Known() || login == unknownLogin || who.Special == sidecar.System:
		return sidecar.Author{Key: sidecar.AuthorKey(sidecar.ServicePrefix, login)}
	}
	return sidecar.Author{Key: sidecar.AuthorKey(sidecar.LoginPrefix, login), Proof: sidecar.Proven}
}
