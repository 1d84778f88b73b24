package clean

import (
	"context"

	"sluice/sidecar/remedy"
	"sluice/sidecar/scan"
)

// Options are what the steps of a clean are told.
type Options struct {
	Logs     []string // by which it is known what bounces answer; empty: Exim's main log of the last days
	Reset    bool     // the domain is to start at zero, too
	Password bool     // the login is to get a new password, and not to be suspended
	Passwd   string   // file with the accounts of this host, and their homes
	Progress func(scan.Progress)

	// Header is what a script says of its file, empty if it says nothing; nil: the running sluice is asked.
	Header func(ctx context.Context, author string) string
}

// Steps are the remedies that there are.
func Steps(h *remedy.Host, o Options) []Step {
	if o.Header == nil {
		o.Header = func(ctx context.Context, author string) string { return headerOf(ctx, h, author) }
	}
	return []Step{stopStep{h}, loginStep{h, o.Password}, queueStep{h, o.Logs}, scriptStep{h, o.Passwd, o.Header}, scanStep{o.Passwd, o.Progress}, releaseStep{h, o.Reset}}
}
