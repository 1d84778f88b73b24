package eximconfig_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// hostDirEnv names the folder of a host to its first process.
const hostDirEnv = "SLUICE_TEST_HOST_DIR"

// otherRootEnv names a folder with another Debian (.ci/with-exim), whose Exim and other
// programs hosts have in the place of the machine's.
const otherRootEnv = "SLUICE_TEST_EXIM_ROOT"

// hostMounts are the files and folders of the machine that a host has of its
// own, and where in the host's folder they are.
var hostMounts = []struct{ own, path string }{
	{"etc", "/etc"},
	{"usr-local", "/usr/local"},
	{"lib", "/var/lib/exim4"},
	{"spool", "/var/spool/exim4"},
	{"log", "/var/log/exim4"},
	{"mail", "/var/mail"},
	{"run", "/run"},
	{"actions", "/var/lib/sluice-actions"},
}

// hostInit is a host's first process, in mount and process namespaces of its
// own. It mounts, says so, and lives until its standard input ends; the kernel
// then kills what is left of the host, also where the test was killed itself.
//
// All orphans become its children, Exim's deliveries among them. One that a
// signal killed is noted in the file "killed".
func hostInit(dir string) int {
	if err := hostMount(dir); err != nil {
		fmt.Println(err)
		return 1
	}
	killed, err := os.OpenFile(filepath.Join(dir, "killed"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer killed.Close()
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	over := make(chan struct{})
	go func() {
		defer close(over)
		io.Copy(io.Discard, os.Stdin)
	}()
	fmt.Println("ready")
	for {
		select {
		case <-children:
			reap(killed)
		case <-over:
			return 0
		}
	}
}

func hostMount(dir string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	root := os.Getenv(otherRootEnv)
	if root != "" { // what becomes the root has to be a mount
		if err := bind(root, root); err != nil {
			return err
		}
	}
	for _, m := range hostMounts {
		if err := bind(filepath.Join(dir, m.own), root+m.path); err != nil {
			return err
		}
	}
	if root != "" {
		if err := enter(root); err != nil {
			return err
		}
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return nil
}

// bind has a folder also at another place, and all that is mounted in it.
func bind(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { // Exim's user has to get through, where another root has no /var/log
		return err
	}
	if err := os.Mkdir(to, 0o700); err != nil && !errors.Is(err, fs.ErrExist) { // what is missing stays on the machine, and is nobody's but root's
		return err
	}
	if err := syscall.Mount(from, to, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s: %w", to, err)
	}
	return nil
}

// enter makes a mounted folder the root, with the machine's devices, temporary files and
// this repository in it.
func enter(root string) error {
	repository, err := filepath.Abs("..")
	if err != nil {
		return err
	}
	for _, shared := range []string{"/dev", os.TempDir(), repository} {
		if err := bind(shared, root+shared); err != nil {
			return err
		}
	}
	if err := errors.Join(os.Chdir(root), syscall.PivotRoot(".", "."), syscall.Unmount(".", syscall.MNT_DETACH), os.Chdir("/")); err != nil {
		return fmt.Errorf("enter %s: %w", root, err)
	}
	return nil
}

func reap(killed io.Writer) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if status.Signaled() {
			fmt.Fprintf(killed, "process %d was killed: %v\n", pid, status.Signal())
		}
	}
}
