package main

import (
	"errors"
	"fmt"
	"time"

	"sluice/sidecar/printable"
	"sluice/sidecar/scan"
)

type scriptScanCmd struct {
	Dir      string `arg:"" help:"The home of an account, or a directory in it."`
	Database string `type:"path" placeholder:"DIR" help:"Directory of the signatures of clamscan (default: its own)."`
	Clamd    string `type:"path" placeholder:"FILE" help:"Configuration of clamd (default: its own)."`
	jsonFlag
}

// Help is the long help.
func (scriptScanCmd) Help() string {
	return `Has ClamAV look for malware: clamd where it answers, else clamscan. It runs with the rights of
the account and no more, gives way to all other work, and takes 15 minutes at most: first
comes what has changed within 7 days, then the rest. ^C ends it, and shows what was found so
far. A file that the account itself cannot read is not scanned.

Nothing is done to what is found. A line of the scanner is believed only if it names a file
that exists there: a tenant chooses the names. The exit code is 1 where something was
found or not all was scanned, as where something of the account's has killed the scanner,
and 2 where it could not be scanned.

Examples:
  sluice script scan /home/bob
  sluice script scan /home/bob/public_html --json | jq -r '.findings[].path'` +
		jsonHelp(scan.Report{}, "A path with odd characters is quoted, and may be typed so.")
}

func (c scriptScanCmd) Run(t *terminal, of *scriptCmd) error {
	dir, account, err := of.locate(c.Dir)
	if err != nil {
		return fmt.Errorf("script scan %s: %w", printable.Of(c.Dir), err)
	}
	r, err := scan.Run(t.ctx, time.Now(), scan.Options{Account: account, Dir: dir, Database: c.Database, Clamd: c.Clamd, Progress: t.scanProgress()})
	return c.end(t, r, err)
}

// end shows what a scan has found, also if it ended too early.
func (c scriptScanCmd) end(t *terminal, r scan.Report, err error) error {
	killed := errors.Is(err, scan.ErrKilled)
	switch {
	case err != nil && !killed && len(r.Findings) == 0:
	case c.JSON:
		err = errors.Join(err, printJSON(t.stdout, r))
	default:
		printScan(t, r)
	}
	switch {
	case err != nil && !killed:
		return fmt.Errorf("script scan %s: %w", printable.Of(c.Dir), err)
	case len(r.Findings) > 0:
		return no{errors.New("script scan: " + r.Malware())}
	case r.Interrupted != "":
		return no{errors.New("script scan: not all was scanned")}
	}
	return nil
}

// scanProgress returns what prints every ten seconds how far a scan has come.
func (t *terminal) scanProgress() func(scan.Progress) {
	told := time.Now()
	return func(p scan.Progress) {
		now, what := time.Now(), "all files"
		if now.Sub(told) < 10*time.Second {
			return
		}
		if told = now; p.Recent {
			what = "what has changed within 7 days"
		}
		printf(t.stderr, "at %s: %d scanned, %d found\n", what, p.Files, p.Found)
	}
}

func printScan(t *terminal, r scan.Report) {
	w := t.stdout
	for _, f := range r.Findings {
		printf(w, "%s: %s\n  to disable it: %s\n", f.Path, f.Signature, f.Path.DisableCommand())
	}
	printf(w, "%s by %s, %s; nothing was changed\n", printable.Count(r.Files, "file scanned", "files scanned"), r.Program, r.Malware())
	if r.Interrupted != "" {
		t.warn("not all was scanned: " + r.Interrupted)
	}
	if r.Unbelieved > 0 {
		t.warn(fmt.Sprintf("%s of a file that does not exist, not believed", printable.Count(r.Unbelieved, "line was", "lines were")))
	}
	if r.Trouble != "" {
		t.warn(r.Program + " says: " + r.Trouble)
	}
}
