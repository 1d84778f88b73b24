package clean

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/action"
	"sluice/sidecar/printable"
	"sluice/sidecar/remedy"
	"sluice/sidecar/scan"
	"sluice/sidecar/script"
)

// A scriptStep disables the file that sends, of an author that is the directory of a script.
type scriptStep struct {
	host   *remedy.Host
	passwd string // file with the accounts and their homes

	header func(ctx context.Context, author string) string // what a script says of its file; empty: nothing
}

// Name implements Step.
func (s scriptStep) Name() string { return Script }

// Plan implements Step.
func (s scriptStep) Plan(ctx context.Context, c Case) (p Plan, err error) {
	dir, why := scriptDir(c.Author)
	if dir == "" {
		return Plan{Nothing: why}, nil
	}
	return s.plan(dir, s.header(ctx, c.Author.Key))
}

// scriptDir is the directory of a script; without one, why there is none.
func scriptDir(author sidecar.Author) (dir, why string) {
	dir, is := strings.CutPrefix(author.Key, sidecar.ScriptPrefix)
	switch {
	case !is && author.Kind() == "mailbox":
		return "", "it logged in"
	case !is:
		return "", "it is not known that a script sends"
	case !filepath.IsAbs(dir) || strings.ContainsAny(dir, `\~*`): // see sidecar.AuthorKey
		return "", "its directory is not known to the letter: sluice script disable DIRECTORY lists which files it may be"
	}
	return dir, ""
}

// headerOf is what a script says of its file by the running sluice; empty if it says nothing, or
// cannot be asked for: then a person picks the file.
func headerOf(ctx context.Context, h *remedy.Host, author string) string {
	who, _ := h.Who(ctx, author)
	for _, a := range who.Of(author) {
		if a.Header != "" {
			return a.Header
		}
	}
	return ""
}

// plan plans to disable the file in a directory that a header names.
func (s scriptStep) plan(dir, header string) (Plan, error) {
	name := scriptName(header)
	pick := cmp.Or(printable.Command("sluice script disable", dir), "sluice script disable") + " lists which files it may be"
	if name == "" {
		return Plan{Nothing: "it does not say of which file it is: " + pick}, nil
	}
	found, err := s.find(filepath.Join(dir, name))
	if err != nil {
		return Plan{Nothing: fmt.Sprintf("it says that it is %s: %v; %s", name, err, pick)}, nil
	}
	defer found.Close()
	if found.Mode&0o777 == 0 {
		return Plan{Nothing: found.Path.String() + " is disabled already"}, nil
	}
	line := Line{Text: fmt.Sprintf("disable %s of %s, as its header says; it can lie", found.Path, found.Account), Command: found.Path.DisableCommand()}
	return Plan{Lines: []Line{line}, Values: string(found.Path)}, nil
}

// plainName is a name of a file as people choose them.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.+@-]{0,99}$`)

// scriptName is the name of the file that a header names: "1001:mailer.php" of PHP's own, or
// "example.com/wp/mailer.php for 192.0.2.1" of cPanel's. The directory is known better than by that.
func scriptName(header string) string {
	name, _, _ := strings.Cut(header, " ")
	name = name[strings.LastIndexAny(name, "/:")+1:]
	if !plainName.MatchString(name) {
		return ""
	}
	return name
}

// find finds a script, and the account in whose home it is.
func (s scriptStep) find(path string) (*script.Script, error) {
	path, account, err := script.Locate(s.passwd, path)
	if err != nil {
		return nil, err
	}
	rules, err := s.host.ScriptRules(false)
	if err != nil {
		return nil, err
	}
	return script.Find(account, path, rules)
}

// Do implements Step.
func (s scriptStep) Do(ctx context.Context, c Case, p Plan) (done Done, err error) {
	path, is := p.Values.(string)
	if !is {
		return done, errors.New("there is no plan")
	}
	found, err := s.find(path)
	if err != nil {
		return done, err
	}
	defer found.Close()
	found.Author = c.Author.Key
	n, err := s.host.DisableScript(found, action.Action{Incident: c.Incident, Part: c.Number})
	if n > 0 {
		done.Actions = []int{n}
	}
	if err != nil {
		return done, err
	}
	php := script.ReadOpcache(os.DirFS("/"))
	done.Text = fmt.Sprintf("%s is disabled; PHP notices within %s", found.Path, printable.Brief(php.Within))
	if php.Never != "" {
		done.Left = append(done.Left, "PHP notices nothing until php-fpm is reloaded: opcache.validate_timestamps is off in "+php.Never)
	}
	account := script.Account{Name: found.Account, UID: found.Owner, Home: found.Home}
	done.Left = append(done.Left, leftAround(script.LookAround(ctx, account, time.Time{}), found.Account)...)
	return done, nil
}

// leftAround says which processes and crontab lines of an account were left alone.
func leftAround(a script.Around, account string) (left []string) {
	if n := len(a.Processes); n > 0 {
		var pids []string
		for _, p := range a.Processes[:min(n, script.Listed)] {
			pids = append(pids, fmt.Sprint(p.PID))
		}
		left = append(left, fmt.Sprintf("%s of %s, by one of which it may go on: %s", printable.Count(int64(n), "running process", "running processes"),
			account, printable.Command("kill", pids...)))
	}
	if n := len(a.Crontab); n > 0 {
		left = append(left, fmt.Sprintf("%s of %s, by one of which it may come back: %s", printable.Count(int64(n), "crontab line", "crontab lines"),
			account, printable.Command("crontab -l -u", account)))
	}
	return left
}

// A scanStep looks for malware in the directory of a script.
type scanStep struct {
	passwd   string
	progress func(scan.Progress)
}

// Name implements Step.
func (s scanStep) Name() string { return Scan }

// Plan implements Step.
func (s scanStep) Plan(_ context.Context, c Case) (Plan, error) {
	dir, why := scriptDir(c.Author)
	if dir == "" {
		return Plan{Nothing: why}, nil
	}
	if !scan.Installed() {
		return Plan{Nothing: scan.ErrMissing.Error()}, nil
	}
	dir, account, err := script.Locate(s.passwd, dir)
	if err != nil {
		return Plan{Nothing: dir + ": " + err.Error()}, nil
	}
	line := Line{Text: fmt.Sprintf("look for malware in %s, as %s; nothing is done to what is found", dir, account.Name), Command: printable.Command("sluice script scan", dir)}
	return Plan{Lines: []Line{line}, Values: dir}, nil
}

// Do implements Step.
func (s scanStep) Do(ctx context.Context, _ Case, p Plan) (done Done, err error) {
	dir, is := p.Values.(string)
	if !is {
		return done, errors.New("there is no plan")
	}
	dir, account, err := script.Locate(s.passwd, dir)
	if err != nil {
		return done, err
	}
	r, err := scan.Run(ctx, time.Now(), scan.Options{Account: account, Dir: dir, Progress: s.progress})
	done.Text = fmt.Sprintf("%s, %s", printable.Count(r.Files, "file scanned", "files scanned"), r.Malware())
	for _, f := range r.Findings[:min(len(r.Findings), script.Listed)] {
		done.Left = append(done.Left, fmt.Sprintf("%s: %s: %s", f.Path, f.Signature, f.Path.DisableCommand()))
	}
	if len(r.Findings) > script.Listed || r.Interrupted != "" {
		done.Left = append(done.Left, "not all is listed or scanned: "+printable.Command("sluice script scan", dir))
	}
	return done, err
}
