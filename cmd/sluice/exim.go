package main

import (
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	eximconfig "sluice/exim-config"
	"sluice/sidecar/install"
	"sluice/sidecar/printable"
)

type eximCmd struct {
	Install eximInstallCmd `cmd:"" help:"Have Exim ask Sluice."`
	Remove  eximRemoveCmd  `cmd:"" help:"Take Sluice out of Exim's configuration."`
	Show    eximShowCmd    `cmd:"" help:"Show what of Sluice is in Exim's configuration."`
}

type eximInstallCmd struct {
	Layout string `placeholder:"LAYOUT" help:"debian, single, cpanel or directadmin."`
	Way    string `placeholder:"WAY" help:"perl, tcp or run."`
	File   string `name:"file" type:"path" placeholder:"FILE" help:"Of the layout single: Exim's configuration file, if it is not the one that Exim uses."`
}

// Help is the long help.
func (eximInstallCmd) Help() string {
	return `Puts Sluice into the configuration of Exim on this host. All is made beside it first, and
where the layout allows Exim has loaded it and would ask before any of it is put in place; what
turns out wrong after that puts everything back. Run again, it puts in what is new; what is not
said then is as it was said before, and what was changed by hand is kept beside it. In the end
it tells what happens from now on, and whom the limits would have refused in Exim's main log.

  --layout debian       Debian's split configuration, /etc/exim4/conf.d
           single       one file: exim.conf, or Debian's unsplit template
           cpanel       cPanel: sections of /etc/exim.conf.local
           directadmin  DirectAdmin: /etc/exim.*.pre.conf
                        The default is what is found here. To change it, remove first.
  --way    perl         ask over the unix socket, by Exim's embedded Perl
           tcp          over TCP on the loopback, with a token; listen.policy in
                        sluice.toml needs "tcp:127.0.0.1:293"
           run          run "sluice check" for each question; slow
                        The default is perl, or tcp where Exim has no Perl.

Examples:
  sluice exim install
  sluice exim install --way tcp`
}

func (c eximInstallCmd) Run(t *terminal) error {
	err := t.changeExim("install", func(i *install.Installer) error {
		return i.Install(t.ctx, install.Wanted{Layout: c.Layout, Way: c.Way, Config: c.File})
	})
	if err == nil {
		t.teach()
	}
	return err
}

type eximRemoveCmd struct{}

// Help is the long help.
func (eximRemoveCmd) Help() string {
	return `Takes out of the configuration of Exim what sluice exim install has put in; all else stays,
and is as it was before. Mail that was held goes with the next queue run.

Example:
  sluice exim remove`
}

func (eximRemoveCmd) Run(t *terminal) error {
	return t.changeExim("remove", func(i *install.Installer) error { return i.Remove(t.ctx) })
}

type eximShowCmd struct{ jsonFlag }

// Help is the long help.
func (eximShowCmd) Help() string {
	return `Shows which files sluice exim install has put into Exim's configuration, and whether they are
as they were put in; or in which layout it would. Nothing is changed. The exit code is 1 if
Sluice is not in.

Examples:
  sluice exim show
  sluice exim show --json` + jsonHelp(install.Shown{}, "state is as put in, changed by hand or gone.")
}

func (c eximShowCmd) Run(t *terminal) error {
	var s install.Shown
	err := t.withInstaller("show", io.Discard, func(i *install.Installer) (err error) {
		s, err = i.Show(t.ctx)
		return err
	})
	switch {
	case err != nil:
		return err
	case c.JSON:
		err = printJSON(t.stdout, s)
	case s.Installed:
		fmt.Fprintf(t.stdout, "Sluice is in Exim's configuration; layout %s, way %s\n\n", s.Layout, s.Way)
		rows := [][]printable.Text{cells("STATE", "FILE")}
		for _, f := range s.Files {
			rows = append(rows, cells(f.State, f.Path))
		}
		printTable(t.stdout, "ll", rows)
	}
	if err == nil && !s.Installed {
		return no{fmt.Errorf("exim show: Sluice is not in Exim's configuration; sluice exim install would put it in, layout %s, way %s", s.Layout, s.Way)}
	}
	return err
}

// changeExim has the installer change Exim's configuration. A terminal that is closed meanwhile
// does not end it half way.
func (t *terminal) changeExim(what string, change func(*install.Installer) error) error {
	signal.Ignore(syscall.SIGHUP)
	unix.Umask(0o022) // Exim reads what is made, with its own rights
	err := t.withInstaller(what, t.stdout, change)
	if err == nil || errors.Is(err, install.ErrUsage) {
		return err
	}
	return no{err}
}

// withInstaller finds the installer of this host.
func (t *terminal) withInstaller(what string, out io.Writer, do func(*install.Installer) error) error {
	c, err := t.loadConfig()
	if err != nil {
		return fmt.Errorf("exim %s: %w", what, err)
	}
	i, err := install.Find(c.Exim.Binary, c.Locks.Dir, eximconfig.Files, out)
	if err == nil {
		err = do(i)
	}
	if err != nil {
		return fmt.Errorf("exim %s: %w", what, err)
	}
	return nil
}
