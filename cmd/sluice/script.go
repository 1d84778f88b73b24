package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/action"
	"sluice/sidecar/printable"
	"sluice/sidecar/remedy"
	"sluice/sidecar/scan"
	"sluice/sidecar/script"
)

type scriptCmd struct {
	Passwd string `hidden:"" type:"path" default:"/etc/passwd" help:"File with the accounts and their homes."`

	Disable scriptDisableCmd `cmd:"" help:"Take all permissions from a file in an account's home, so that nothing runs it."`
	Enable  scriptEnableCmd  `cmd:"" help:"Give a disabled file its permissions back."`
	Scan    scriptScanCmd    `cmd:"" help:"Look for malware in an account's home with ClamAV."`
}

type scriptDisableCmd struct {
	File   string `arg:"" help:"The file. Of a directory the files are listed of which one may be it."`
	Author string `placeholder:"AUTHOR" help:"Who sends by it, as sluice who shows it (default: script: and the directory of the file)."`
	Watch  string `default:"60s" placeholder:"TIME" help:"So long to watch whether the author still sends; 0 is not at all (default: 60s)."`
	Force  bool   `help:"Also index.php, wp-config.php, wp-load.php and .htaccess, without which a whole site does not run."`
	DryRun bool   `help:"Only show what would be disabled."`
	Why    string `placeholder:"TEXT" help:"Kept on record."`
	jsonFlag
}

// Help is the long help.
func (scriptDisableCmd) Help() string {
	return `Takes all permissions from the file and sets the time of its last change to now: PHP goes on
running what it has compiled before until that time is another one, and looks every two
seconds unless opcache.revalidate_freq says otherwise. No link is followed, and only a file of
the account's is touched, or one of a login in clean.web_users below public_html. A file that
has several names is disabled under each.

The owner of a file may always enable it again, and so may malware that runs as the owner. What
really ends its mail is sluice stop. The command goes on to watch whether the author still
tries, and the running sluice looks at the file again for 7 days, whenever the author
tries: the event is came-back. What may belong to the script is listed and left alone: running
processes, crontab lines, files that have changed within 10 minutes of the first mail.

sluice undo, or sluice script enable, takes it back. The exit code is 1 where the author still
sends, or the file is back.

Examples:
  sluice script disable /home/bob/public_html/wp/mailer.php
  sluice script disable /home/bob/public_html/wp
  sluice script disable /home/bob/x.php --author login:bob --watch 0` +
		jsonHelp(scriptDisabled{}, "attempts is null where nobody was asked. A path with odd characters is quoted, and may be typed so.") +
		jsonHelp(scriptCandidates{}, "Of a directory:")
}

// scriptDisabled is what script disable prints with --json.
type scriptDisabled struct {
	Action   int           `json:"action"` // 0: nothing was done
	File     script.File   `json:"file"`
	Within   float64       `json:"php_seconds"` // after so long PHP has noticed
	Never    string        `json:"php_never"`   // file that keeps PHP from noticing; empty: none does
	Around   script.Around `json:"around"`
	Watched  float64       `json:"watched_seconds"`
	Attempts *int64        `json:"attempts"`  // of the author since
	CameBack string        `json:"came_back"` // how the file can be run again; empty: it cannot
	Since    time.Time     `json:"since"`
	Warning  string        `json:"warning"`
}

func (c scriptDisableCmd) Run(t *terminal, of *scriptCmd) error {
	watch := time.Duration(0)
	var err error
	if c.Watch != "0" {
		watch, err = parseTime("--watch", c.Watch)
	}
	path, account, err2 := of.locate(c.File)
	if err = errors.Join(err, err2); err == nil {
		err = c.disable(t, path, account, watch)
	}
	if err != nil {
		return fmt.Errorf("script disable %s: %w", printable.Of(c.File), err)
	}
	return nil
}

func (c scriptDisableCmd) disable(t *terminal, path string, account script.Account, watch time.Duration) error {
	rules, err := t.host().ScriptRules(c.Force)
	if err != nil {
		return err
	}
	s, err := script.Find(account, path, rules)
	if errors.Is(err, script.ErrDirectory) {
		return c.listCandidates(t, path, account)
	}
	if err != nil {
		return err
	}
	defer s.Close()
	s.Author = cmp.Or(c.Author, authorOfScript(path))
	d := scriptDisabled{File: s.File, Since: time.Now()}
	first, warning := t.firstSend(s.Author)
	if !c.DryRun {
		if d.Action, err = t.host().DisableScript(s, action.Action{Why: c.Why}); err != nil {
			return err
		}
	}
	d.Warning = warning
	d.findAround(t, account, first)
	if !c.JSON {
		d.print(t, c.DryRun)
	}
	if c.DryRun {
		watch = 0
	}
	switch err = t.watchScript(&d, watch); {
	case c.JSON:
		err = errors.Join(printJSON(t.stdout, d), err)
	case err == nil && d.Attempts != nil:
		printf(t.stdout, "0 attempts since %s by %s\n", d.Since.Local().Format("15:04"), s.Author)
	}
	return err
}

// authorOfScript is who sends by a script that nothing else is known of: sendmail is mostly run
// in the directory of the script.
func authorOfScript(path string) string {
	return sidecar.AuthorKey(sidecar.ScriptPrefix, filepath.Dir(path))
}

// locate returns the path that an operator has typed, and the account in whose home it is.
func (c *scriptCmd) locate(typed string) (path string, a script.Account, err error) {
	var p script.Path
	if err := p.UnmarshalText([]byte(typed)); err != nil {
		return "", a, err
	}
	if path, err = filepath.Abs(string(p)); err != nil {
		return "", a, err
	}
	return script.Locate(c.Passwd, path)
}

// findAround finds out how soon PHP notices, and what else may belong to the script.
func (d *scriptDisabled) findAround(t *terminal, account script.Account, first time.Time) {
	php := script.ReadOpcache(os.DirFS("/"))
	d.Within, d.Never = php.Within.Seconds(), php.Never
	d.Around = script.LookAround(t.ctx, account, first)
	d.Around.Changed = slices.DeleteFunc(d.Around.Changed, func(f script.Found) bool { return f.Path == d.File.Path })
}

// print says what was done, and what was left.
func (d *scriptDisabled) print(t *terminal, dry bool) {
	w := t.stdout
	if dry {
		printf(w, "%s of %s would be disabled; its mode is %04o\n", d.File.Path, d.File.Account, d.File.Mode)
	} else {
		printf(w, "%s of %s is disabled; its mode was %04o. PHP notices within %s (opcache.revalidate_freq)\n", d.File.Path, d.File.Account, d.File.Mode,
			printable.Brief(time.Duration(d.Within*float64(time.Second))))
		printf(w, "  to take it back: %s\n", t.undoHint(d.Action))
	}
	if d.File.Links > 1 {
		printf(w, "  it has %d names, and is disabled under each\n", d.File.Links)
	}
	if d.Never != "" {
		t.warn(fmt.Sprintf("opcache.validate_timestamps is off in %s: PHP runs on what it has compiled until php-fpm is reloaded", d.Never))
	}
	printAround(t, d.Around, d.File.Account)
	t.warn(d.Warning)
}

// undoHint is the command that takes an action back.
func (t *terminal) undoHint(number int) string {
	node, err := t.node()
	if err != nil {
		return fmt.Sprintf("sluice undo %d", number)
	}
	return remedy.UndoCommand(node, number)
}

// printAround lists what may belong to a script, with the commands that end it.
func printAround(t *terminal, a script.Around, account string) {
	w := t.stdout
	if n := len(a.Processes); n > 0 {
		printf(w, "  %s of %s, left alone:\n", printable.Count(int64(n), "running process", "running processes"), account)
		var pids []string
		for _, p := range a.Processes[:min(n, script.Listed)] {
			printf(w, "    %d %s\n", p.PID, printable.TextOf(p.Command).Cut(100))
			pids = append(pids, fmt.Sprint(p.PID))
		}
		printf(w, "    to end them: %s\n", printable.Command("kill", pids...))
	}
	if n := len(a.Crontab); n > 0 {
		printf(w, "  %s, left alone:\n", printable.Count(int64(n), "crontab line", "crontab lines"))
		for _, line := range a.Crontab[:min(n, script.Listed)] {
			printf(w, "    %s\n", printable.TextOf(line).Cut(100))
		}
		printf(w, "    to edit them: %s\n", cmp.Or(printable.Command("crontab -e -u", account), "crontab -e"))
	}
	if len(a.Changed) > 0 {
		printf(w, "  files that have changed within 10 minutes of the first mail:\n")
		for _, f := range a.Changed {
			printf(w, "    %s  %s\n", printable.DateTime(f.Changed), f.Path)
		}
	}
}

// scriptCandidates are the files of a directory of which one may be the script, for --json.
type scriptCandidates struct {
	Candidates []script.Found `json:"candidates"`
}

// listCandidates lists which files may be meant by a directory. It disables none.
func (c scriptDisableCmd) listCandidates(t *terminal, dir string, account script.Account) error {
	found, err := account.Candidates(t.ctx, dir, time.Now().Add(-scan.Recent), script.Listed)
	if err != nil && !errors.Is(err, script.ErrMany) {
		return err
	}
	if c.JSON {
		err = printJSON(t.stdout, scriptCandidates{append([]script.Found{}, found...)})
	} else {
		printCandidates(t, found)
	}
	if err != nil {
		return err
	}
	return no{fmt.Errorf("%w; %s changed within 7 days and may send mail", script.ErrDirectory,
		printable.Count(int64(len(found)), "file in it has", "files in it have"))}
}

func printCandidates(t *terminal, found []script.Found) {
	if len(found) == 0 {
		return
	}
	rows := [][]printable.Text{cells("CHANGED", "COMMAND")}
	for _, f := range found {
		rows = append(rows, cells(printable.DateTime(f.Changed), f.Path.DisableCommand()))
	}
	printTable(t.stdout, "rr", rows) // a command is never shortened
}

type scriptEnableCmd struct {
	File string `arg:"" help:"The file, as it was disabled."`
	Why  string `placeholder:"TEXT" help:"Kept on record."`
	jsonFlag
}

// Help is the long help.
func (scriptEnableCmd) Help() string {
	return `Gives the file the permissions and the time of the last change that it had before it was
disabled, if its content is still the same, and nobody has put another file in its place. The bits
of set-uid and the like stay off.

Example:
  sluice script enable /home/bob/public_html/wp/mailer.php` + jsonHelp(done{}, "")
}

func (c scriptEnableCmd) Run(t *terminal, of *scriptCmd) error {
	path, err := c.enable(t, of)
	switch {
	case err != nil:
		return fmt.Errorf("script enable %s: %w", printable.Of(c.File), err)
	case c.JSON:
		return printJSON(t.stdout, done{"enabled", path.String(), ""})
	}
	printf(t.stdout, "%s is as it was before it was disabled\n", path)
	return nil
}

func (c scriptEnableCmd) enable(t *terminal, of *scriptCmd) (script.Path, error) {
	path, _, err := of.locate(c.File)
	if err != nil {
		return "", err
	}
	all, err := t.host().Actions()
	if err != nil {
		return "", err
	}
	for _, a := range slices.Backward(all) {
		var was script.File
		if a.Verb != script.Disabled || a.Read(&was) != nil || string(was.Path) != path || action.UndoneBy(all, a.Number) > 0 {
			continue
		}
		again := action.Action{Verb: script.Enabled, Whom: a.Whom, Undoes: a.Number, Why: c.Why}
		_, err := t.host().Act(again, nil, func(int) (any, error) {
			_, err := remedy.EnableScript(a, all)
			return nil, err
		})
		return was.Path, err
	}
	return "", no{errors.New("it was not disabled by sluice on this node, or is enabled again: see sluice actions")}
}
