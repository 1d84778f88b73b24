package install

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"sluice/sidecar/exim"
)

// Wanted is what an operator has said of how Sluice is to be put in. What is empty is as in an
// earlier run, else as it is found here.
type Wanted struct {
	Layout string // debian, single, cpanel or directadmin
	Way    string // in which Exim asks: perl, tcp or run
	Config string // Exim's configuration file, of the layout single
}

// ErrUsage is of what cannot be wanted, here or at all.
var ErrUsage = errors.New("wrong usage")

// An Installer works on the Exim of this host.
type Installer struct {
	Exim  exim.Exim
	Files fs.FS     // exim-config: the files that go into Exim's configuration
	Locks string    // the lock directory, locks.dir
	Out   io.Writer // for operators: what was put in
}

// patience is how long Exim may take to load its configuration on a busy host.
const patience = time.Minute

// Find returns the installer of this host: its Exim is the one of the binary, if that exists, or
// the first of the usual names on PATH.
func Find(binary, locks string, files fs.FS, out io.Writer) (*Installer, error) {
	for _, name := range []string{binary, "exim4", "exim"} {
		if path, err := exec.LookPath(name); err == nil {
			return &Installer{exim.Exim{Binary: path, Patience: patience}, files, locks, out}, nil
		}
	}
	return nil, errors.New("there is no Exim here: install it, or set exim.binary in sluice.toml")
}

// Install puts Sluice into Exim's configuration. Run again, it puts in what is new and keeps a
// copy of what was changed by hand. If it fails, everything is as it was.
func (i *Installer) Install(ctx context.Context, w Wanted) error {
	r, err := i.begin(ctx, w)
	if err != nil {
		return err
	}
	defer os.RemoveAll(r.work)
	if err := r.prepare(ctx); err != nil {
		return err
	}
	if err := r.publish(ctx); err != nil {
		return err
	}
	if err := r.wouldAsk(ctx); err != nil {
		return r.failLive(ctx, "Exim would not ask Sluice", err)
	}
	if r.answered && !r.answers(ctx) && !r.answers(ctx) {
		return r.failLive(ctx, "The sluice that runs does not answer what Exim would ask now: it is older",
			problem("Update it first: install the new program, systemctl daemon-reload, systemctl restart sluice"))
	}
	return r.finish(ctx)
}

// prepare stages Sluice, and looks whether Exim takes what is on the stage and would ask.
func (r *run) prepare(ctx context.Context) error {
	r.unstage(false)
	if err := r.loads(ctx); err != nil {
		return problemf("Exim's configuration does not load as it is; mend that first:\n%v", err)
	}
	if r.way == "perl" && !r.hasPerl(ctx) {
		return errors.New("this Exim has no embedded Perl. Use sluice exim install --way tcp")
	}
	r.noteSite(ctx)
	r.answered = r.way == r.before.way && r.answers(ctx)
	r.stage.paths = nil // the layout has its order; what it has no more comes behind
	if err := r.layout.stage(r); err != nil {
		return r.fail("Sluice cannot be put in", err)
	}
	for _, path := range r.before.paths() {
		r.stage.file(path)
	}
	if err := r.loads(ctx); err != nil {
		return r.fail("Exim does not load its configuration with Sluice in it", err)
	}
	if r.config == "" {
		return nil // only what is in place can be asked
	}
	if err := r.wouldAsk(ctx); err != nil {
		return r.fail("Exim would not ask Sluice", err)
	}
	return nil
}

// finish makes what the way to ask needs, and says what is next.
func (r *run) finish(ctx context.Context) error {
	if r.way == "tcp" {
		if err := r.makeToken(ctx); err != nil {
			return err
		}
	}
	r.printf("Exim's configuration now asks Sluice. The daemon takes it up with:\n    %s", r.layout.reload())
	r.printf("What your site may change is listed in %s.", r.layout.macrosAre())
	if r.way == "tcp" && !r.answers(ctx) {
		address, _ := r.installed().Expand(ctx, "", "SLUICE_TCP")
		r.printf("Sluice does not answer at %[1]s yet. In sluice.toml it needs\n    [listen]\n    policy = [\"unix:/run/sluice/policy.sock\", \"tcp:%[1]s\"]\n"+
			"and then:  systemctl enable sluice-tcp.socket; systemctl restart sluice", address)
	}
	return nil
}

// Remove takes Sluice out of Exim's configuration.
func (i *Installer) Remove(ctx context.Context) error {
	r, err := i.begin(ctx, Wanted{})
	if err != nil {
		return err
	}
	defer os.RemoveAll(r.work)
	if r.before == nothing {
		r.printf("Sluice is not in Exim's configuration; nothing to remove.")
		return nil
	}
	r.unstage(true)
	if err := r.loads(ctx); err != nil {
		return r.fail("Exim does not load its configuration without Sluice", err)
	}
	if err := r.publish(ctx); err != nil {
		return err
	}
	r.printf("Sluice is out of Exim's configuration. The daemon takes that up with:\n    %s\nMail that was held goes out with the next queue run.", r.layout.reload())
	if file := r.layout.macrosFile(); file != "" && setsSiteMacros(filepath.Dir(file)) {
		r.printf("Your files in %s still set SLUICE_SITE_ macros. If you took lines of\nyour own out for them (acl_not_smtp, perl_startup), put those back.", filepath.Dir(file))
	}
	return nil
}

// setsSiteMacros reports whether a file of a folder sets a macro for a line of the site's.
func setsSiteMacros(folder string) bool {
	files, _ := filepath.Glob(filepath.Join(folder, "*"))
	return slices.ContainsFunc(files, func(file string) bool {
		text, _ := os.ReadFile(file)
		return slices.ContainsFunc(bytes.Split(text, []byte("\n")), func(line []byte) bool {
			return bytes.HasPrefix(bytes.TrimLeft(line, " "), []byte("SLUICE_SITE_"))
		})
	})
}

// A File is one of the files that Show lists.
type File struct {
	Path  string `json:"path"`
	State string `json:"state"` // as put in, changed by hand, gone
}

// Shown is what of Sluice is in Exim's configuration.
type Shown struct {
	Installed bool   `json:"installed"`
	Layout    string `json:"layout"` // in which it is, or would be put in
	Way       string `json:"way"`
	Config    string `json:"config,omitempty"`
	Files     []File `json:"files"`
}

// Show tells what of Sluice is in Exim's configuration.
func (i *Installer) Show(ctx context.Context) (s Shown, err error) {
	r, err := i.begin(ctx, Wanted{})
	if err != nil {
		return s, err
	}
	defer os.RemoveAll(r.work)
	s = Shown{Installed: r.before != nothing, Layout: r.layout.name(), Way: r.way, Config: r.conf, Files: []File{}}
	for _, path := range r.before.paths() {
		state := "as put in"
		text, err := os.ReadFile(path)
		switch {
		case err != nil:
			state = "gone"
		case sum(text) != r.before.sums[path]:
			state = "changed by hand"
		}
		s.Files = append(s.Files, File{path, state})
	}
	return s, nil
}

// A run is one run of the installer.
type run struct {
	*Installer
	layout   layout
	way      string
	conf     string    // the configuration file of the layout single, else empty
	before   *manifest // of the run before; nothing if there was none
	stage    *stage
	work     string            // a directory for checks
	config   string            // what the stage would make of Exim's configuration; empty if only the panel can make it
	site     map[string]string // options as the site has them without us
	answered bool              // Sluice answers what Exim asks as it is now
}

// begin settles what is wanted, with what was wanted before and what is found here.
func (i *Installer) begin(ctx context.Context, w Wanted) (r *run, err error) {
	r = &run{Installer: i, before: readManifest(), stage: newStage()}
	name := cmp.Or(w.Layout, r.before.layout, found())
	if r.layout = layoutNamed(name); r.layout == nil {
		return nil, fmt.Errorf("%w: there is no layout %q, there are: debian single cpanel directadmin", ErrUsage, name)
	}
	r.conf, r.way = cmp.Or(w.Config, r.before.config), cmp.Or(w.Way, r.before.way)
	switch {
	case r.before.layout != "" && r.before.layout != name:
		return nil, fmt.Errorf("%w: Sluice is here in the layout %s; take it out first: sluice exim remove", ErrUsage, r.before.layout)
	case w.Config != "" && name != "single":
		return nil, fmt.Errorf("%w: sluice exim install --file is of the layout single; here it is %s", ErrUsage, name)
	case r.before.config != "" && r.before.config != r.conf:
		return nil, fmt.Errorf("%w: Sluice is in %s; take it out first: sluice exim remove", ErrUsage, r.before.config)
	}
	if r.way != "" {
		if _, err := fs.Stat(i.Files, "ask-"+r.way+".conf"); err != nil {
			return nil, fmt.Errorf("%w: there is no way %q, there are: perl tcp run", ErrUsage, r.way)
		}
	}
	if os.Getuid() != 0 {
		return nil, errors.New("only root can read all of Exim's configuration, and change it. Try: sudo sluice ...")
	}
	if r.way == "" {
		if r.way = "tcp"; r.hasPerl(ctx) {
			r.way = "perl"
		}
	}
	if r.conf, err = r.layout.ready(ctx, r); err != nil {
		return nil, err
	}
	return r, r.makeWork(ctx)
}

// makeWork makes the directory for checks. Exim loads what is in it with its own rights; nobody
// else may, for configurations have passwords.
func (r *run) makeWork(ctx context.Context) (err error) {
	if r.work, err = os.MkdirTemp("", "sluice-exim-"); err != nil {
		return err
	}
	gid, err := eximGroup(ctx, r.installed())
	if err != nil {
		return nil // Exim cannot say, as its configuration does not load, which it is told next
	}
	return errors.Join(os.Chown(r.work, 0, gid), os.Chmod(r.work, 0o750))
}

func (r *run) printf(format string, args ...any) { fmt.Fprintf(r.Out, format+"\n", args...) }

// fail is what an operator is told of a failure before anything was put in place.
func (r *run) fail(what string, why error) error {
	return problemf("%s:\n%s\neverything is as it was before; Exim was not touched", what, r.explain(why))
}

// A problem is an error whose text is for an operator, of whole sentences and several lines.
type problem string

func (p problem) Error() string { return string(p) }

func problemf(format string, args ...any) error { return problem(fmt.Sprintf(format, args...)) }

// found is the layout that this host looks like.
func found() string {
	switch {
	case exists("/usr/local/cpanel"):
		return "cpanel"
	case exists("/usr/local/directadmin"):
		return "directadmin"
	case !exists("/etc/exim4/exim4.conf") && debianIsSplit():
		return "debian"
	}
	return "single"
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
