package install

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// Debian's own.
const (
	debianDir    = "/etc/exim4"
	debianScript = "update-exim4.conf" // makes Exim's configuration of its files
	debianConf   = debianDir + "/update-exim4.conf.conf"
)

// debian is Debian's split configuration, /etc/exim4/conf.d.
type debian struct{}

func (debian) name() string       { return "debian" }
func (debian) manifest() string   { return debianDir + "/sluice.installed" }
func (debian) macrosFile() string { return debianDir + "/conf.d/main/000_localmacros" }
func (debian) macrosAre() string  { return debianDir + "/conf.d/main/00_sluice_macros" }
func (debian) reload() string     { return "systemctl reload exim4" }

func (debian) ready(context.Context, *run) (string, error) {
	if _, err := exec.LookPath(debianScript); err != nil {
		return "", problemf("this is no Debian Exim: %s is missing", debianScript)
	}
	switch {
	case !exists(debianConf):
		return "", problemf("there is no %s", debianConf)
	case exists(debianDir + "/exim4.conf"):
		return "", problemf("Exim uses %s/exim4.conf here, not Debian's conf.d. Use sluice exim install --layout single.", debianDir)
	case !debianIsSplit():
		return "", problemf("Debian's configuration is unsplit here (dc_use_split_config in\n%s). Use sluice exim install --layout single.", debianConf)
	}
	return "", nil
}

var splitConfig = regexp.MustCompile(`(?m)^dc_use_split_config=['"]?true['"]?\s*$`)

// debianIsSplit reports whether Debian's configuration is made of the files in conf.d.
func debianIsSplit() bool {
	text, err := os.ReadFile(debianConf)
	return err == nil && splitConfig.Match(text)
}

// stage puts in whole files. The names order them, for update-exim4.conf reads them as ls lists
// them: in main after the site's 000_localmacros and before Debian's 01_, and the routers and
// retry rules before all others.
func (debian) stage(r *run) error {
	for _, f := range [][2]string{
		{"debian.conf", "main/00_sluice_debian"}, {"macros.conf", "main/00_sluice_macros"}, {"ask-" + r.way + ".conf", "main/00_sluice_way"},
		{"acl.conf", "acl/10_sluice"}, {"routers.conf", "router/01_sluice"}, {"retry.conf", "retry/10_sluice"},
	} {
		if err := r.whole(debianDir+"/conf.d/"+f[1], []byte(r.text(f[0]))); err != nil {
			return err
		}
	}
	return r.wholePerl()
}

// generate has update-exim4.conf read a copy of the configuration with the stage in it.
func (debian) generate(ctx context.Context, r *run) ([]byte, error) {
	return generateDebian(ctx, r)
}

// generateDebian makes the configuration that Debian's script would make of the files in
// /etc/exim4 with the stage in them.
func generateDebian(ctx context.Context, r *run) ([]byte, error) {
	dir, out := filepath.Join(r.work, "confdir"), filepath.Join(r.work, "generated")
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil { // there are passwords in it, and only root's script reads it
		return nil, err
	}
	if err := os.CopyFS(dir, os.DirFS(debianDir)); err != nil {
		return nil, fmt.Errorf("copy %s: %w", debianDir, err)
	}
	for _, path := range r.stage.paths {
		inside, ok := strings.CutPrefix(path, debianDir)
		if !ok {
			continue
		}
		f := *r.stage.files[path]
		if f.gone {
			os.Remove(dir + inside)
		} else if err := f.write(dir + inside); err != nil {
			return nil, err
		}
	}
	if err := runScript(ctx, debianScript, "-d", dir, "-o", out); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
}

func (debian) goLive(ctx context.Context) error { return runScript(ctx, debianScript) }

func (debian) siteACL(*run, string) string { return "" } // debian.conf names it

func (d debian) hintSiteACL(_, macro string) string {
	return "Remove that line and put into " + d.macrosFile() + ":\n    " + macro
}

func (debian) hintRouters() string {
	return "Rename the file in " + debianDir + "/conf.d/router that sorts before 01_sluice."
}

// runScript runs a script that makes Exim's configuration. An error has what it printed.
func runScript(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
		return problemf("%s: %v\n%s", args[0], err, strings.TrimSpace(string(out)))
	}
	return nil
}
