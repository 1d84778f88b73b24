package main

import (
	"os/user"
	"time"

	"sluice/sidecar/delivery"
	"sluice/sidecar/logline"
	"sluice/sidecar/mainlog"
	"sluice/sidecar/postfixlog"
)

// followLogs has the engine record the logs of Exim and Postfix, from where they were last
// read.
func (n *node) followLogs() {
	if path := n.config.Postfix.Log; path != "" {
		of := delivery.PostfixLog{Recorder: n.engine.Recorder}
		n.logs = append(n.logs, mainlog.New(mainlog.Options{Key: "postfix.log", Path: path, Position: of.Position(), Location: time.Local, Consumer: countedLog{of, n.metrics, "postfix"}, Events: n.events,
			Parser: postfixlog.NewParser(time.Local, loginOf)}))
	}
	if path := n.config.Exim.Mainlog; path != "" {
		n.logs = append(n.logs, mainlog.New(mainlog.Options{Key: "exim.mainlog", Path: path, Position: n.engine.Position(), Location: time.Local,
			Consumer: watchedQueue{countedLog{n.engine, n.metrics, "exim"}, n.queue, n.newLoops()}, Events: n.events}))
	}
	n.engine.ShowProgress(func() []logline.Progress {
		logs := []logline.Progress{}
		for _, f := range n.logs {
			logs = append(logs, f.Progress())
		}
		return logs
	})
}

// loginOf returns the login name of a user id, "" if there is none.
func loginOf(uid string) string {
	u, err := user.LookupId(uid)
	if err != nil {
		return ""
	}
	return u.Username
}
