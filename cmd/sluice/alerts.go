package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"sluice/sidecar/admin"
	"sluice/sidecar/alert"
	"sluice/sidecar/card"
	"sluice/sidecar/config"
	"sluice/sidecar/exim"
	"sluice/sidecar/incident"
	"sluice/sidecar/printable"
)

// prepareAlerts prepares to tell operators of incidents, which go on from what is on the disk.
func (n *node) prepareAlerts(mta exim.Exim) {
	sender := &alert.Sender{Deliver: mta.Helper, Notify: filepath.Join(filepath.Dir(mta.Helper), "notify.sock"),
		Mail: func(ctx context.Context, c config.Channel, notice alert.Notice) error {
			return mailNotice(ctx, n.engine.Config(), n.name, c, notice)
		}}
	o := alert.Options{
		Dir: filepath.Join(n.config.Store.Dir, "notices"), Node: n.name, Config: n.engine.Config, Current: n.engine.Incident,
		Account: n.engine.AccountOf,
		Card:    func(i incident.Incident) string { return (&card.Card{Incident: i}).Text() },
		Send:    sender.Send, Events: n.events,
	}
	if all := n.engine.SharedIncidents(); all != nil {
		o.Shared = all
	}
	n.alerts = alert.New(o)
	n.engine.WatchIncidents(n.alerts.Changed)
	n.engine.WatchEvents(n.alerts.Event)
}

// mailNotice has the mail server of this host send a notice.
func mailNotice(ctx context.Context, c *config.Config, node string, to config.Channel, n alert.Notice) error {
	from := c.AlertSender(node)
	return exim.Mailer(c.Exim.Binary, c.Sets("exim.binary")).Send(ctx, from, alert.Message(from, to, node, n))
}

// deliverNotice is what sluice deliver does with a notice. Who it is from and to is in the
// configuration, which only root writes: sluice serve has a say in the text alone.
func deliverNotice(t *terminal, in *bufio.Reader, c *config.Config) error {
	node, err := nodeName(c)
	if err != nil {
		return err
	}
	return alert.ServeMail(in, t.stdout, c, func(to config.Channel, n alert.Notice) error { return mailNotice(t.ctx, c, node, to, n) })
}

// notifyCmd is for sluice-notify@.service.
type notifyCmd struct{}

// Help is the long help.
func (notifyCmd) Help() string {
	return `Reads one notice, posts it to its webhook or hands it to its program, and prints what
became of it. For the unit sluice-notify@.service: sluice serve itself is confined there and has no
network.`
}

func (notifyCmd) Run(t *terminal) error { return alert.ServeJob(t.ctx, t.stdin, t.stdout) }

type alertCmd struct {
	Test alertTestCmd `cmd:"" help:"Send a test notice now, and say whether it was delivered."`
}

type alertTestCmd struct {
	Channel string `arg:"" optional:"" help:"Its name: mail, webhook or exec; mail-2 for the second one by mail. Default: all."`
	jsonFlag
}

// Help is the long help.
func (alertTestCmd) Help() string {
	return `Has the running sluice send a test notice on the channels in [[alert.to]] of sluice.toml, past
all bounds and without a second try. For mail "delivered" means that the mail server has taken it. The
exit code is 1 if one was not delivered, or nobody is told at all.

Examples:
  sluice alert test
  sluice alert test webhook` + jsonHelp(alert.Tested{}, "")
}

func (c alertTestCmd) Run(t *terminal) error {
	tested, err := ask(t, "alert test", func(a *admin.Client) (alert.Tested, error) { return a.AlertTest(t.ctx, c.Channel) })
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(t.stdout, tested)
	}
	failed := 0
	for _, r := range tested.Channels {
		if r.Error != "" {
			failed++
		}
		switch {
		case c.JSON:
		case r.Error != "":
			printf(t.stdout, "%s (%s): not delivered: %s\n", r.Channel, r.Target, r.Error)
		default:
			printf(t.stdout, "%s (%s): delivered\n", r.Channel, r.Target)
		}
	}
	switch {
	case err != nil:
		return err
	case len(tested.Channels) == 0:
		return no{errors.New("alert test: alert.to is empty, so nobody is told of anything")}
	case failed > 0:
		return no{fmt.Errorf("alert test: %s not delivered", printable.Count(int64(failed), "notice was", "notices were"))}
	}
	return nil
}

// testAlerts is what the admin socket does for sluice alert test.
func (n *node) testAlerts(ctx context.Context, channel string) (alert.Tested, error) {
	return n.alerts.Test(ctx, time.Now(), channel)
}
