package scan

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"sluice/sidecar/printable"
	"sluice/sidecar/script"
)

// Options are what to scan, and with what.
type Options struct {
	Account  script.Account
	Dir      string // absolute; the home or a directory below it
	Database string // directory of signatures for clamscan; empty: its own
	Clamd    string // configuration file of clamd; empty: its own
	Progress func(Progress)
}

// Progress is how far a scan has come.
type Progress struct {
	Recent bool  // it is at what has changed within Recent; then comes the rest
	Files  int64 // that were read
	Found  int
}

// Recent is how old a change is that is looked at first.
const Recent = 7 * 24 * time.Hour

// maxDuration is how long a scan may take.
const maxDuration = 15 * time.Minute

// A Finding is a file in which a signature was found.
type Finding struct {
	Path      script.Path `json:"path"`
	Signature string      `json:"signature"`
}

// A Report is what a scan has found.
type Report struct {
	Program     string    `json:"program"` // clamdscan or clamscan
	Files       int64     `json:"files"`   // that were read, those that have changed lately twice
	Findings    []Finding `json:"findings"`
	Unbelieved  int64     `json:"unbelieved"`  // lines that say a file was found that does not exist
	Interrupted string    `json:"interrupted"` // why not all was scanned; empty: all was
	Trouble     string    `json:"trouble"`     // the last error that the program told; empty: none
}

// Malware says how much was found.
func (r *Report) Malware() string {
	return printable.Count(int64(len(r.Findings)), "file has malware", "files have malware")
}

// ErrMissing: there is no ClamAV.
var ErrMissing = errors.New("neither does clamd answer nor is there a clamscan; on Debian: apt-get install clamav")

// ErrKilled: the scanner was ended by a signal. It runs as the account, so that whatever else runs
// as the account, as the malware may, can do that.
var ErrKilled = errors.New("something has killed it before it had read all files; what else runs as the account can do that: end that first")

// cPanel's ClamAV is in no PATH.
const cpanelPrograms = "/usr/local/cpanel/3rdparty/bin/"

// mostFindings is how many files are listed.
const mostFindings = 1000

// Run scans a directory: first what has changed within Recent, then all of it. It ends early
// when ctx does or after Longest. What it has found so far is returned with an error too.
func Run(ctx context.Context, now time.Time, o Options) (r Report, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, maxDuration, fmt.Errorf("it has taken %v", maxDuration))
	defer cancel()
	s := &scanner{Options: o, report: Report{Findings: []Finding{}}}
	if err = s.choose(ctx); err != nil {
		return s.report, err
	}
	list, n, err := s.listRecent(ctx, now)
	if err != nil {
		return s.report, err
	}
	defer os.Remove(list)
	if n > 0 {
		s.recent = true
		err = s.scan(ctx, "--file-list="+list)
	}
	if s.recent = false; err == nil && ctx.Err() == nil {
		err = s.scan(ctx, o.Dir)
	}
	if ctx.Err() != nil {
		s.report.Interrupted, err = context.Cause(ctx).Error(), nil
	} else if err != nil {
		s.report.Interrupted = err.Error()
	}
	return s.report, err
}

// A scanner is a scan under way.
type scanner struct {
	Options
	command []string
	recent  bool
	report  Report
	pending []string // lines since the last one that said a file was found
}

// choose finds the program that scans.
func (s *scanner) choose(ctx context.Context) error {
	if path := find("clamdscan"); path != "" {
		s.command = []string{path, "--fdpass", "--no-summary", "--verbose"}
		if s.Clamd != "" {
			s.command = append(s.command, "--config-file="+s.Clamd)
		}
		if s.run(ctx, append(slices.Clone(s.command), "--ping", "1")).Run() == nil {
			s.report.Program = "clamdscan"
			return nil
		}
	}
	path := find("clamscan")
	if path == "" {
		return ErrMissing
	}
	s.report.Program = "clamscan"
	s.command = []string{path, "--no-summary", "--recursive", "--follow-dir-symlinks=0", "--follow-file-symlinks=0"}
	if s.Database != "" {
		s.command = append(s.command, "--database="+s.Database)
	}
	return nil
}

// Installed reports whether there is a program that scans.
func Installed() bool { return find("clamdscan") != "" || find("clamscan") != "" }

// find returns the path of a program; empty if there is none.
func find(name string) string {
	for _, name := range []string{name, cpanelPrograms + name} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// run prepares a program that has the rights of the account, and gives way to all others. Its
// memory is bounded: an archive may be made to unpack to anything. It ends with all that it has
// started.
func (s *scanner) run(ctx context.Context, command []string) *exec.Cmd {
	args := []string{
		fmt.Sprintf("--reuid=%d", s.Account.UID), fmt.Sprintf("--regid=%d", s.Account.GID), "--clear-groups",
		"--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--",
		"nice", "-n", "39", // to 19 from wherever serve stands
		"ionice", "-c", "3", "prlimit", "--as=4294967296", "--",
	}
	c := exec.CommandContext(ctx, "setpriv", append(args, command...)...)
	c.Dir = "/"
	c.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = 10 * time.Second
	return c
}

// listRecent writes the names of the files that have changed within Recent to a file that only
// the account can read, and returns its name. Names with line ends are left out: they are
// scanned with all others.
func (s *scanner) listRecent(ctx context.Context, now time.Time) (name string, n int, err error) {
	f, err := os.CreateTemp("", "sluice-scan-")
	if err != nil {
		return "", 0, fmt.Errorf("list what has changed: %w", err)
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	err = s.Account.Walk(ctx, s.Dir, func(found script.Found) {
		if now.Sub(found.Changed) <= Recent && !strings.ContainsAny(string(found.Path), "\r\n") {
			n++
			fmt.Fprintln(w, string(found.Path))
		}
	})
	if errors.Is(err, script.ErrMany) {
		err = nil // of the rest it is not known when it has changed
	}
	if err = errors.Join(err, w.Flush(), f.Chmod(0o400), f.Chown(int(s.Account.UID), int(s.Account.GID))); err != nil {
		os.Remove(f.Name())
		return "", 0, fmt.Errorf("list what has changed in %s: %w", printable.Of(s.Dir), err)
	}
	return f.Name(), n, nil
}

// scan runs the program on a directory, or on what a list names.
func (s *scanner) scan(ctx context.Context, what string) error {
	c := s.run(ctx, append(slices.Clone(s.command), what))
	var told tail
	c.Stderr = &told
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return fmt.Errorf("run %s as %s: %w", s.report.Program, s.Account.Name, err)
	}
	s.pending = nil
	before := s.report.Files
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		s.line(lines.Text())
	}
	io.Copy(io.Discard, out) // of a line that is longer than any name
	err = c.Wait()
	s.report.Trouble = told.last()
	// 0: nothing found, 1: something found, 2: some file could not be read (clamscan(1)); less: killed.
	code := c.ProcessState.ExitCode()
	if code < 0 {
		return fmt.Errorf("%s as %s: %w: %w", s.report.Program, s.Account.Name, err, ErrKilled)
	}
	if code > 2 || code == 2 && s.report.Files == before && !s.recent {
		return fmt.Errorf("%s as %s: %w: %s", s.report.Program, s.Account.Name, err, s.report.Trouble)
	}
	return nil
}

// line takes a line of the program: "PATH: SIGNATURE FOUND" or "PATH: OK". A path may have line
// ends in it, and so belong to the lines before too.
func (s *scanner) line(text string) {
	said, found := strings.CutSuffix(text, " FOUND")
	if found || strings.HasSuffix(text, ": OK") {
		s.report.Files++
		defer func() { s.Progress(Progress{s.recent, s.report.Files, len(s.report.Findings)}) }()
	}
	if !found {
		const most = 16 // lines of one name
		if s.pending = append(s.pending, text); len(s.pending) > most {
			s.pending = s.pending[1:]
		}
		return
	}
	pending := s.pending
	s.pending = nil
	for i := range len(pending) + 1 {
		if s.believe(strings.Join(append(slices.Clone(pending[i:]), said), "\n")) {
			return
		}
	}
	s.report.Unbelieved++
}

// believe takes a finding if it is of a file that exists.
func (s *scanner) believe(said string) bool {
	i := strings.LastIndex(said, ": ")
	if i < 0 {
		return false
	}
	f := Finding{script.Path(said[:i]), said[i+2:]}
	if !strings.HasPrefix(said, strings.TrimSuffix(filepath.Clean(s.Dir), "/")+"/") || !s.Account.Has(said[:i]) {
		return false
	}
	if !slices.Contains(s.report.Findings, f) && len(s.report.Findings) < mostFindings {
		s.report.Findings = append(s.report.Findings, f)
	}
	return true
}

// A tail keeps the end of what is written to it.
type tail struct{ text []byte }

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	const most = 4 << 10
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-most):]
	return len(p), nil
}

// last is the last line, as it may be shown.
func (t *tail) last() string {
	lines := strings.Split(strings.TrimSpace(string(t.text)), "\n")
	return printable.Of(lines[len(lines)-1])
}
