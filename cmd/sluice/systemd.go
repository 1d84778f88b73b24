package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"sluice/sidecar/config"
	"sluice/sidecar/event"
	"sluice/sidecar/policyd"
)

// inherited are the sockets that systemd has opened for us, by address. It
// keeps them open over a restart, so that no question is refused meanwhile.
// Without systemd there are none.
func inherited() (map[string]*net.UnixListener, error) {
	listeners, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("take over the sockets of systemd: %w", err)
	}
	sockets := map[string]*net.UnixListener{}
	for _, l := range listeners {
		u, ok := l.(*net.UnixListener)
		if !ok {
			return nil, errors.New("take over the sockets of systemd: one is no unix socket; mend sluice.socket")
		}
		u.SetUnlinkOnClose(false)
		sockets[u.Addr().String()] = u
	}
	return sockets, nil
}

// notify tells systemd, if it is there, what state we are in.
func notify(state string) {
	// Nobody to tell is no error, and there is nothing to be done about others.
	daemon.SdNotify(false, state)
}

// watch keeps systemd's watchdog quiet as long as our own policy socket
// answers: a process that lives but does not answer is restarted. The first
// socket stands for all; on TCP the question needs a token.
func watch(ctx context.Context, l config.Listener, token string, events event.Sink) error {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return nil
	}
	tick := time.NewTicker(interval / 4)
	defer tick.Stop()
	client := policyd.Client{Network: l.Network(), Path: l.Address(), Timeout: interval / 4}
	for {
		if err := askOurselves(ctx, client, token); err == nil {
			notify(daemon.SdNotifyWatchdog)
		} else if ctx.Err() == nil {
			events.Emit(event.Event{Kind: event.SocketSilent, Err: err})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// askOurselves asks about inbound mail, for which nobody is charged.
func askOurselves(ctx context.Context, c policyd.Client, token string) error {
	reply, err := c.Ask(ctx, []policyd.Field{
		{Name: "token", Value: token},
		{Name: "stage", Value: "rcpt"},
		{Name: "client_address", Value: "192.0.2.1"},
		{Name: "sender", Value: "watchdog@sluice.invalid"},
		{Name: "recipient", Value: "watchdog@sluice.invalid"},
	})
	if err == nil && !strings.HasPrefix(reply, "action=DUNNO") {
		err = fmt.Errorf("answered %q", reply)
	}
	return err
}
