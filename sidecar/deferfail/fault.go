package deferfail

import (
	"strings"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/logline"
)

// A fault is what a bad send tells of the place where it went wrong.
type fault uint8

const (
	// ownFault tells nothing: the address or its domain does not exist, or Exim would not send
	// the message. Nothing else explains that, so it is always held against whoever sent.
	ownFault fault = iota
	// noAnswer: no server has answered. The connection was refused or timed out, a lookup
	// did not complete, or a transport of this host failed.
	noAnswer
	// answered: a server has answered with 4xx or 5xx.
	answered
	// greylisted is like answered, and no sign of a fault: the server asks everybody to
	// come back once.
	greylisted
)

func faultOf(o *logline.Outcome) fault {
	switch o.Cause {
	case sidecar.NoSuchUser:
		return ownFault
	case sidecar.Greylist:
		return greylisted
	case sidecar.RemoteDefer, sidecar.RemoteReject, sidecar.CalledSpam:
		return answered
	case sidecar.DNS, sidecar.OtherCause: // a message that is too big, or has too long lines
		if o.Result == ratelimit.Failed { // the lookup has completed: there is no such host
			return ownFault
		}
	}
	return noAnswer
}

// unowned is the account of all domains that the owner map does not have. No login is named so.
const unowned = "not in the owner map"

// accountOf returns who is behind a send, as far as one fault must not look like that of
// several: three domains of one account are one. Who sends through a web server's login
// only claims an account, and could claim many. So could a relay with the domains of its
// senders: with an owner map, all that it does not have are one.
func accountOf(who *sidecar.Payer, ownersKnown bool) string {
	switch {
	case strings.HasPrefix(who.Special, sidecar.WebPrefix):
		return sidecar.WebPrefix
	case who.Account != "":
		return who.Account
	case who.Domain != "" && ownersKnown:
		return unowned
	case who.Domain != "":
		return who.Domain
	}
	return who.Special
}
