package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
)

// The .rpm, by Debian's rpm, in a small root of its own that no systemd has booted, with the scripts run by dash
// and by busybox:
//
//	rpm -i ─→ files and modes, enabled ─→ the operator edits and disables ─→ rpm -U ─→ both are kept
//	       ─→ rpm -e, not while Exim has it ─→ .rpmsave, and nothing else is left
//
// What only a real RHEL can show is listed in docs/install.md.
func TestRPM(t *testing.T) {
	t.Parallel()
	hosttest.Root(t)
	for _, program := range []string{"rpm", "debootstrap", "unshare"} {
		hosttest.Program(t, program)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	root := machineRoot(t, filepath.Join(cache, "sluice"))
	buildPackage(t, "1.0.0", "rpm")
	buildPackage(t, "1.1.0", "rpm")
	packages, err := filepath.Abs("../../bin/packages")
	if err != nil {
		t.Fatal(err)
	}
	for _, shell := range []string{"dash", "busybox"} {
		path, err := exec.LookPath(shell)
		if err != nil {
			hosttest.Missing(t, shell+" is not installed")
		}
		t.Run(shell, func(t *testing.T) { tryRPM(t, root, packages, path) })
	}
}

// tryRPM installs, updates and erases where sh is another shell.
func tryRPM(t *testing.T, root, packages, shell string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--propagation", "private", "sh", "-eu", "-c", rpmSteps, "sh", t.TempDir(), root, packages, shell)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	said := map[string]string{} // by step
	for _, part := range strings.Split(string(out), "== ")[1:] {
		step, text, _ := strings.Cut(part, "\n")
		said[step] = text
	}
	for step, want := range map[string]string{
		"installs": "755 root /usr/sbin/sluice\n640 root /etc/sluice/sluice.toml\n644 root /usr/lib/systemd/system/sluice.service\n" +
			"644 root /usr/lib/tmpfiles.d/sluice.conf\n644 root /usr/share/man/man8/sluice.8.gz\n644 root /usr/share/zsh/site-functions/_sluice\n",
		"is whole":         "",
		"is enabled":       "enabled\n",
		"is":               "sluice 1.0.0\n",
		"is then":          "sluice 1.1.0\n",
		"keeps the file":   "# the operator was here\n",
		"stays disabled":   "disabled\n",
		"is left":          "/etc/sluice/sluice.toml.rpmsave\n",
		"knows its config": "/etc/sluice/sluice.toml\n",
	} {
		if said[step] != want {
			t.Errorf("%s: %q, want %q", step, said[step], want)
		}
	}
	for step, want := range map[string]string{
		"says at first":     "have Exim ask, and nobody be refused:  sluice set default mode=watch && sluice exim install",
		"says of make":      "/etc/systemd/system/sluice.socket is now in /var/lib/sluice/units-of-make-install",
		"goes not":          "sluice exim remove",
		"runs by its units": "ExecStart=/usr/sbin/sluice serve",
	} {
		if !strings.Contains(said[step], want) {
			t.Errorf("%s: %q, which does not have %q", step, said[step], want)
		}
	}
}

// rpmSteps installs, updates and erases in a copy of a root: sh DIRECTORY ROOT PACKAGES SHELL.
const rpmSteps = `
mount -t tmpfs rpm "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
mount -t proc proc "$1/root/proc"
cd "$1/root"
root=$1/root packages=$3
rm -f bin/sh bin/dash
cp "$4" bin/"${4##*/}"
ln -s "${4##*/}" bin/sh
inside() { chroot "$root" env PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
by() { rpm --root "$root" --dbpath /var/lib/rpm "$@" 2>&1; }
files="/usr/sbin/sluice /etc/sluice/sluice.toml /usr/lib/systemd/system/sluice.service /usr/lib/tmpfiles.d/sluice.conf
	/usr/share/man/man8/sluice.8.gz /usr/share/zsh/site-functions/_sluice"
mkdir -p etc/systemd/system
echo '[Socket]' >etc/systemd/system/sluice.socket
echo "== says at first"
by -i --nodeps "$packages"/sluice-1.0.0-1.x86_64.rpm >said
cat said
echo "== says of make"
cat said
echo "== installs"
inside stat -c '%a %U %n' $files
echo "== is whole"
by -V --nodeps sluice
echo "== knows its config"
by -qc sluice
echo "== is enabled"
inside systemctl is-enabled sluice.service
echo "== is"
inside sluice version
echo "== runs by its units"
cat usr/lib/systemd/system/sluice.service
echo '# the operator was here' >>etc/sluice/sluice.toml
inside systemctl disable --quiet sluice.service
echo "== update"
by -U --nodeps "$packages"/sluice-1.1.0-1.x86_64.rpm
echo "== is then"
inside sluice version
echo "== keeps the file"
tail -n 1 etc/sluice/sluice.toml
echo "== stays disabled"
inside systemctl is-enabled sluice.service || true
touch etc/sluice/exim.installed
mkdir -p usr/sbin
ln -sf /bin/true usr/sbin/exim
echo "== goes not"
! by -e sluice || echo "it goes"
inside sluice version >/dev/null
rm etc/sluice/exim.installed usr/sbin/exim
echo "== goes"
by -e sluice
echo "== is left"
find usr etc -iname '*sluice*' -type f -o -iname '*sluice*' -type l | sed 's|^|/|'
`
