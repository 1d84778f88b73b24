package delivery

import "sluice/sidecar"

// asked are the messages about which Sluice was asked, by their ids, with what the log does
// not say of them: whose connection on this host they came over, or in which directory a
// program has sent them. They wait here until the log has the arrival, which then keeps that.
// One that was refused never arrives, but what sendmail submits, Exim then sends back to its
// sender. A crash in between forgets them: then what nobody has charged is charged to the
// loopback or the login.
type asked struct {
	recent[origin]
	sends recent[sends] // that were charged for messages that have not arrived yet
}

// Came tells what a question says of a message that arrives. It never waits: the question is
// being answered.
func (d *Recorder) Came(r *sidecar.Request) {
	by := origin{Sender: r.Sender, Auth: r.Auth, Client: r.ClientAddress, Socket: r.Socket, Proxy: r.ProxyAddress}
	if r.ClientAddress == "" {
		by.Login, by.Directory, by.Script = d.settings().OwnerMap.Get().Caller(r), r.CWD, r.Script
	}
	d.messages.asked.put(r.ID, by.clone())
}

// complete adds to an arrival what Came has told. An authenticated id of which it has told
// nothing is none.
func (r *messages) complete(a *Arrived) {
	if a.Sender.Socket != "" || a.Sender.Directory != "" {
		return
	}
	if by, known := r.asked.take(a.id); known {
		from := a.Sender.origin
		if from.Auth = by.Auth; by.Login != "" {
			from.Login = by.Login // users whom Exim trusts can have the log say another one
		}
		from.Socket, from.Proxy, from.Directory, from.Script = by.Socket, by.Proxy, by.Directory, by.Script
		a.Sender = r.sources.Get(from)
		r.changed(a)
	}
}
