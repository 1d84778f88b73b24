package sidecar

// A Cause is why a send was deferred or failed, as status shows it and
// deferfail_ignore names it.
type Cause string

// The causes.
const (
	Greylist     Cause = "greylist"        // asked to come back, once
	RemoteDefer  Cause = "remote-defer"    // any other 4xx
	NoSuchUser   Cause = "no-such-address" // the address does not exist
	RemoteReject Cause = "remote-reject"   // any other 5xx
	Unreachable  Cause = "unreachable"     // no connection, or it broke
	DNS          Cause = "dns"             // a name that could not be looked up
	OtherCause   Cause = "other"
)

// Causes lists all of them.
func Causes() []Cause {
	return []Cause{Greylist, RemoteDefer, NoSuchUser, RemoteReject, Unreachable, DNS, OtherCause}
}
