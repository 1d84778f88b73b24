package main

import (
	"os/user"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/mainlog"
	"sluice/sidecar/postfixlog"
)

// followLogs has the policy told what the logs of Exim and Postfix say, from where
// they were read last.
func (n *node) followLogs(operators *sidecar.OperatorLog) {
	if path := n.config.Postfix.Log; path != "" {
		of := sidecar.PostfixLog{Policy: n.policy}
		n.follow(mainlog.Options{Path: path, Position: of.Position(), Location: time.Local, Consumer: of, Reporter: operators,
			Parser: postfixlog.NewParser(time.Local, loginOf)})
	}
	if path := n.config.Exim.Mainlog; path != "" {
		n.follow(mainlog.Options{Path: path, Position: n.policy.Position(), Location: time.Local, Consumer: n.policy, Reporter: operators})
	}
}

func (n *node) follow(o mainlog.Options) {
	f := mainlog.New(o)
	n.logs = append(n.logs, f)
	n.policy.ShowProgress(f.Progress)
}

// loginOf is the login name of a user id, as Postfix logs it.
func loginOf(uid string) string {
	u, err := user.LookupId(uid)
	if err != nil {
		return ""
	}
	return u.Username
}
