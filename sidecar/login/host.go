package login

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// adapterDir is where programs of the operator's are, one for each panel that Sluice does not
// know.
const adapterDir = "/etc/sluice/adapters"

// A Host finds the adapters of this host.
type Host struct {
	Root   string // under which programs and files are: /
	Chosen string // clean.adapter; empty: the only one there is
	Holds  bool   // clean.hold_outgoing: cPanel is to hold what a suspended login sends, too
}

// ErrNone is that logins cannot be suspended on this host.
var ErrNone = errors.New("nothing on this host can suspend logins")

// Adapter is the adapter to use.
func (h Host) Adapter(ctx context.Context) (Adapter, error) {
	if h.Chosen == "none" {
		return nil, fmt.Errorf("%w: clean.adapter is \"none\"", ErrNone)
	}
	if h.Chosen != "" {
		return h.named(ctx, h.Chosen)
	}
	all, why := h.detected(ctx)
	switch len(all) {
	case 1:
		return all[0], nil
	case 0:
		return nil, fmt.Errorf("%w: there is no cPanel, no program in %s, and %w", ErrNone, adapterDir, why)
	}
	names := []string{}
	for _, a := range all {
		names = append(names, a.Name())
	}
	return nil, fmt.Errorf("there is more than one way to suspend logins here, %s: choose with adapter = %q in the section [clean] of the configuration", strings.Join(names, " and "), names[0])
}

// named is the adapter of a name. Its error is that there is none, or that it cannot be used.
func (h Host) named(ctx context.Context, name string) (Adapter, error) {
	switch name {
	case "cpanel":
		if a := h.cPanel(); a != nil {
			return a, nil
		}
		return nil, fmt.Errorf("adapter cpanel: there is no %s", uapiPath)
	case "dovecot":
		d := h.dovecot()
		if d == nil {
			return nil, errors.New("adapter dovecot: there is no doveadm and doveconf")
		}
		return d, d.ready(ctx)
	}
	e := executable{h.Root, h.path(adapterDir, name)}
	return e, e.check()
}

// detected are all adapters that can be used here; why is why Dovecot is none of them, if it is
// not.
func (h Host) detected(ctx context.Context) (all []Adapter, why error) {
	if a := h.cPanel(); a != nil {
		all = append(all, a)
	}
	why = errors.New("no Dovecot")
	if d := h.dovecot(); d != nil {
		if why = d.ready(ctx); why == nil {
			all = append(all, d)
		}
	}
	for _, e := range h.executables() {
		if e.check() == nil {
			all = append(all, e)
		}
	}
	return all, why
}

// Doubts are why programs of the operator's are not run.
func (h Host) Doubts() (doubts []error) {
	for _, e := range h.executables() {
		if err := e.check(); err != nil {
			doubts = append(doubts, err)
		}
	}
	return doubts
}

// Dovecot are what Dovecot's configuration still needs, and why; nothing where it needs nothing
// or there is no Dovecot.
func (h Host) Dovecot(ctx context.Context) (lines string, why error) {
	d := h.dovecot()
	if d == nil {
		return "", nil
	}
	if why = d.ready(ctx); why == nil {
		return "", nil
	}
	return d.lines(ctx), why
}

// executables are the files in AdapterDir, but for hidden ones.
func (h Host) executables() (all []executable) {
	files, _ := os.ReadDir(h.path(adapterDir)) // without the directory there are none
	for _, f := range files {
		if !strings.HasPrefix(f.Name(), ".") {
			all = append(all, executable{h.Root, h.path(adapterDir, f.Name())})
		}
	}
	return all
}

const uapiPath = "/usr/local/cpanel/bin/uapi"

func (h Host) cPanel() Adapter {
	if !exists(h.path(uapiPath)) {
		return nil
	}
	return cPanel{h.path(uapiPath), h.path("/etc/outgoing_mail_hold_users"), h.Holds, h.dovecot()}
}

func (h Host) dovecot() *dovecot {
	for _, dir := range []string{"/usr/bin", "/usr/sbin", "/usr/local/bin"} {
		if d := (dovecot{h.path(dir, "doveadm"), h.path(dir, "doveconf"), denied{h.Root, h.path(DeniedFile)}}); exists(d.doveadm) && exists(d.doveconf) {
			return &d
		}
	}
	return nil
}

func (h Host) path(parts ...string) string {
	return filepath.Join(append([]string{h.Root}, parts...)...)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
