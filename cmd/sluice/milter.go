package main

import (
	"context"
	"fmt"
	"net"

	"sluice/sidecar/config"
	"sluice/sidecar/event"
	"sluice/sidecar/milter"
	"sluice/sidecar/policyd"
)

// listenMilters opens the sockets on which Postfix and Sendmail ask as a mail filter.
func (n *node) listenMilters(uids []int) error {
	for _, l := range n.config.Listen.Milter {
		o := milter.Options{Events: n.events, Admit: policyd.AdmitUsers(uids)}
		socket, err := listenMilter(l, uids)
		if err != nil {
			return err
		}
		if l.Network() == "tcp" {
			o.Admit = policyd.AdmitLoopback
			n.events.Emit(event.Event{Kind: event.MilterOpen, Attrs: event.Attrs("listen.milter", l)})
		} else {
			n.reportOpen(l.Address())
		}
		f := front{socket: socket, serve: func(ctx context.Context, l net.Listener) error {
			return milter.New(n.metrics.Asker(n.asker), o).Serve(ctx, l)
		}}
		if l.Network() == "unix" {
			f.file = socketFile{l.Address(), func() (net.Listener, error) { return listenMilter(l, uids) }}
		}
		n.fronts = append(n.fronts, f)
	}
	return nil
}

func listenMilter(l config.Listener, uids []int) (net.Listener, error) {
	if l.Network() == "unix" {
		return listenUnix(l.Address(), uids)
	}
	socket, err := net.Listen("tcp", l.Address())
	if err != nil {
		return nil, fmt.Errorf("listen for milter clients: %w", err)
	}
	return socket, nil
}
