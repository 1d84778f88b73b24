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
	"sluice/sidecar/web"
)

// inherited returns the sockets that systemd has opened for us, by path or HOST:PORT; none
// without systemd. systemd keeps them open over a restart, so that no question is refused
// meanwhile.
func inherited() (map[string]net.Listener, error) {
	listeners, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("take over the sockets of systemd: %w", err)
	}
	sockets := map[string]net.Listener{}
	for _, l := range listeners {
		if l == nil {
			return nil, errors.New("take over the sockets of systemd: one does not listen; mend sluice.socket, sluice-tcp.socket and sluice-metrics.socket")
		}
		if u, ok := l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
		sockets[l.Addr().String()] = l
	}
	return sockets, nil
}

// notify tells systemd, if it is there, our state.
func notify(state string) {
	// It is no error if there is no systemd, and nothing can be done about other errors.
	daemon.SdNotify(false, state)
}

// watch notifies systemd's watchdog as long as our own policy socket answers: systemd
// restarts a process that runs but does not answer. It asks on the first policy socket
// only; on TCP the question needs the token.
func watch(ctx context.Context, l config.Listener, token string, events event.Sink) error {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return nil
	}
	tick := time.NewTicker(interval / 4)
	defer tick.Stop()
	client := policyd.Client{Network: l.Network(), Path: l.Address(), Token: token, Timeout: interval / 4}
	for {
		if err := askSelf(ctx, client); err == nil {
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

// askSelf asks about inbound mail, for which nobody is charged.
func askSelf(ctx context.Context, c policyd.Client) error {
	reply, err := c.Ask(ctx, []policyd.Field{
		{Name: "stage", Value: "rcpt"},
		{Name: "client_address", Value: "192.0.2.1"},
		{Name: "sender", Value: web.Watchdog},
		{Name: "recipient", Value: "watchdog@sluice.invalid"},
	})
	if err == nil && !strings.HasPrefix(reply, "action=DUNNO") {
		err = fmt.Errorf("answered %q", reply)
	}
	return err
}
