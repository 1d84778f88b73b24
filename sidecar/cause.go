package sidecar

// A Cause is why a send was deferred or failed, as status shows it and
// deferfail_ignore names it.
type Cause string

// The causes.
const (
	Greylist     Cause = "greylist"        // asked to come back, once
	RemoteDefer  Cause = "remote-defer"    // any other 4xx
	NoSuchUser   Cause = "no-such-address" // the address does not exist
	CalledSpam   Cause = "called-spam"     // a 4xx or 5xx that says spam, or that we are on a blacklist
	RemoteReject Cause = "remote-reject"   // any other 5xx
	Unreachable  Cause = "unreachable"     // no connection, or it broke
	DNS          Cause = "dns"             // a name that could not be looked up
	OtherCause   Cause = "other"
)

// Causes lists all of them.
func Causes() []Cause {
	return []Cause{Greylist, RemoteDefer, NoSuchUser, CalledSpam, RemoteReject, Unreachable, DNS, OtherCause}
}
