package policyd

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/hosttest"
)

// S-09: a stranger must not even connect, or he could fill the queue in which Exim waits.
func TestStrangersCannotConnect(t *testing.T) {
	hosttest.Root(t)
	dir := hosttest.OpenDir(t)
	made := filepath.Join(dir, "made")
	ln, err := Listen(made, 101, 102)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(run(t, New(accepting, patient(Options{AllowUIDs: []int{101, 102}})), ln))
	taken := filepath.Join(dir, "taken") // as systemd's, of an older unit
	serve(t, taken, accepting, Options{AllowUIDs: []int{101, 102}})
	if err := errors.Join(os.Chmod(taken, 0o666), Permit(taken, 102, 101, 101)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{made, taken} {
		for uid, want := range map[int]error{0: nil, 101: nil, 102: nil, 65534: syscall.EACCES} {
			if _, err := askAs(t, path, uid); !errors.Is(err, want) {
				t.Errorf("%s, user %d: %v, want %v", path, uid, err, want)
			}
		}
		got, err := MayConnect(path)
		if diff := cmp.Diff(Connectors{Users: []int{101, 102}}, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", path, err, diff)
		}
	}
}

// In a user namespace (user_namespaces(7)) that does not have Exim's user the kernel takes no list that names
// it. It refuses the id -1 alike, which no namespace has.
func TestPermitUserOfNoNamespace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listenAt(t, path)
	if err := Permit(path, 101, -1); err != nil {
		t.Fatal(err)
	}
	if who, err := MayConnect(path); !who.Everybody || err != nil {
		t.Errorf("%+v, %v", who, err)
	}
}

// Who may connect is told of any socket, however a hand has changed it.
func TestMayConnect(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listenAt(t, path)
	var own []int
	if os.Getuid() != 0 {
		own = []int{os.Getuid()}
	}
	for _, c := range []struct {
		mode os.FileMode
		list []int // nil: no access control list
		want Connectors
	}{
		{0o666, nil, Connectors{Everybody: true, Users: own, Groups: []int{os.Getgid()}}},
		{0o660, nil, Connectors{Users: own, Groups: []int{os.Getgid()}}},
		{0o600, nil, Connectors{Users: own}},
		{0o660, []int{7}, Connectors{Users: append(own[:len(own):len(own)], 7)}},
		{0o640, []int{7}, Connectors{Users: own}}, // the mask
		{0o666, []int{7}, Connectors{Everybody: true, Users: append(own[:len(own):len(own)], 7)}},
	} {
		err := syscall.Removexattr(path, accessList)
		if errors.Is(err, syscall.ENODATA) {
			err = nil
		}
		if c.list != nil {
			err = errors.Join(err, Permit(path, c.list...))
		}
		if err := errors.Join(err, os.Chmod(path, c.mode)); err != nil {
			t.Fatal(err)
		}
		got, err := MayConnect(path)
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("mode %o, list %v: %v\n%s", c.mode, c.list, err, diff)
		}
	}
	if _, err := MayConnect(path + ".none"); err == nil {
		t.Error("somebody may connect to nothing")
	}
}
