package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"sluice/sidecar/admin"
	"sluice/sidecar/config"
	"sluice/sidecar/exim"
	"sluice/sidecar/settings"
)

// Options are what Examine needs. All are required.
type Options struct {
	File    string                                    // the configuration file, as findings name it
	Version string                                    // of this program
	Load    func() (*config.Config, error)            // reads the configuration file
	Serves  func(*config.Config) error                // why `sluice serve` would not start with it
	Ask     func(ask func(*admin.Client) error) error // asks the running sluice

	Crontabs []string // directories with the crontabs of users, by login
	Actions  string   // the directory of the record of actions
	Root     string   // where /etc and the like are, which say who starts Exim: /
}

// A Finding is what was found out about one link of the chain.
type Finding struct {
	Check string `json:"check"`
	State State  `json:"state"`
	Found string `json:"found"` // what is there
	Do    string `json:"do"`    // what to do about it; empty where nothing is
}

// A State is how a link of the chain is.
type State string

// The states.
const (
	OK    State = "ok"
	Note  State = "note"  // works, and is worth knowing
	Wrong State = "wrong" // mail is not limited, not counted or not attributed as it should be
)

// A doctor is one examination.
type doctor struct {
	Options
	ctx      context.Context
	config   *config.Config
	settings *settings.Settings // what the configuration comes to
	exim     exim.Exim
	hasExim  bool        // there is one that loads its configuration
	lists    *exim.Lists // nil where Exim does not show its configuration
	running  running
	report
}

// A report is what was found out so far.
type report struct{ findings []Finding }

func (r *report) add(check string, s State, do, format string, args ...any) {
	r.findings = append(r.findings, Finding{check, s, fmt.Sprintf(format, args...), do})
}

func (r *report) ok(check, format string, args ...any) { r.add(check, OK, "", format, args...) }

func (r *report) note(check, do, format string, args ...any) { r.add(check, Note, do, format, args...) }

func (r *report) wrong(check, do, format string, args ...any) {
	r.add(check, Wrong, do, format, args...)
}

// Examine makes all checks. Those that depend on something that is missing are left
// out. It takes a few seconds at most, and must be called by root. The error is that
// the configuration file is not there, or that a file which it names cannot be read.
//
// The program that calls it must have the command `sluice check`, which is run as
// Exim's user to ask as that user.
func Examine(ctx context.Context, o Options) ([]Finding, error) {
	d := &doctor{Options: o, ctx: ctx}
	var err error
	if d.config, err = o.Load(); errors.Is(err, fs.ErrNotExist) {
		return nil, err
	} else if err != nil {
		d.wrong("configuration", "Mend the file, then ask again: all else hangs on it.", "%v", err)
		return d.findings, nil
	}
	if d.settings, err = settings.New(settings.Sources{Config: d.config}, settings.Host{}, nil); err != nil {
		return nil, fmt.Errorf("read the files that the configuration names: %w", err)
	}
	if err := o.Serves(d.config); err != nil {
		d.wrong("configuration", "`sluice serve` would not start with it: mend that.", "%v", err)
	} else if d.config.File() == "" {
		d.note("configuration", "", "there is no %s: all values are built in", o.File)
	} else {
		d.ok("configuration", "%s is good", o.File)
	}
	d.checkPassword()
	d.exim = exim.Find(ctx, d.config.Exim.Binary)
	d.exim.Patience = time.Minute // what a busy machine answers late is not said to be wrong
	d.running = d.ask()
	d.checkServe()
	d.checkSockets()
	d.checkShared()
	if d.hasExim = d.checkExim(); d.hasExim {
		if lists, err := d.exim.Lists(ctx); err == nil {
			d.lists = &lists
		}
		d.checkWiring()
		d.checkAsking()
		d.checkStarters()
		d.checkTransports()
		d.checkLocalDomains()
		d.checkRelay()
		d.checkForgery()
	}
	d.checkLocks()
	d.checkLogs()
	d.checkQueue()
	d.checkMetrics()
	d.checkOwners()
	d.checkCron()
	d.checkAlerts()
	d.checkLogins()
	d.checkActions()
	d.checkClock()
	return d.findings, nil
}
