package policyd

import (
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/sidecar/hosttest"
)

func TestOtherUsersAreRefused(t *testing.T) {
	hosttest.Root(t)
	dir := hosttest.OpenDir(t)
	var log hosttest.Log
	path := filepath.Join(dir, "s")
	s := serve(t, path, accepting, Options{AllowUIDs: []int{101}, Events: logTo(&log)})
	if err := Permit(path, 101, 102, 65534); err != nil { // whoever may connect is asked for his user all the same
		t.Fatal(err)
	}
	for uid, want := range map[int]bool{0: true, 101: true, 65534: false, 102: false} {
		answer, err := askAs(t, path, uid)
		if (answer == "action=DUNNO\n\n") != want {
			t.Errorf("user %d: answer %q, %v", uid, answer, err)
		}
	}
	if n := s.Counts().Refused; n != 2 {
		t.Errorf("%d counted as refused, want 2", n)
	}
	if got := log.String(); strings.Count(got, "policy client refused") != 1 || !strings.Contains(got, "is not one of [0 101]") {
		t.Errorf("logged %s", got)
	}
}

// askAs asks as another user. The thread that connects takes that user's id
// and ends with its goroutine, which does not unlock it.
func askAs(t *testing.T, path string, uid int) (answer string, err error) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if _, _, e := syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); e != 0 {
			err = e
			return
		}
		var nc net.Conn
		if nc, err = net.Dial("unix", path); err != nil {
			return
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(hosttest.Patience()))
		io.WriteString(nc, question)
		b := make([]byte, 100)
		n, rerr := nc.Read(b)
		answer, err = string(b[:n]), rerr
	}()
	<-done
	return answer, err
}

func TestOtherSocketsAreRefused(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	s := New(accepting, Options{})
	s.handle(t.Context(), s.add(there))
	if s.Counts().Refused != 1 {
		t.Error("a connection without peer credentials was admitted")
	}
}
