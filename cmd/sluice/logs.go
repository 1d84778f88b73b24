package main

import (
	"os/user"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/delivery"
	"sluice/sidecar/mainlog"
	"sluice/sidecar/postfixlog"
)

// followLogs has the policy told what the logs of Exim and Postfix say, from where
// they were read last.
func (n *node) followLogs() {
	if path := n.config.Postfix.Log; path != "" {
		of := delivery.PostfixLog{Recorder: n.policy.Recorder}
		n.logs = append(n.logs, mainlog.New(mainlog.Options{Key: "postfix.log", Path: path, Position: of.Position(), Location: time.Local, Consumer: of, Events: n.events,
			Parser: postfixlog.NewParser(time.Local, loginOf)}))
	}
	if path := n.config.Exim.Mainlog; path != "" {
		n.logs = append(n.logs, mainlog.New(mainlog.Options{Key: "exim.mainlog", Path: path, Position: n.policy.Position(), Location: time.Local,
			Consumer: n.policy, Events: n.events}))
	}
	n.policy.ShowProgress(func() []sidecar.LogProgress {
		logs := []sidecar.LogProgress{}
		for _, f := range n.logs {
			logs = append(logs, f.Progress())
		}
		return logs
	})
}

// loginOf is the login name of a user id, as Postfix logs it.
func loginOf(uid string) string {
	u, err := user.LookupId(uid)
	if err != nil {
		return ""
	}
	return u.Username
}
