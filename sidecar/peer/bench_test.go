package peer

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkOwner measures what it costs a connection to find out whose it is, on a host with
// 10,000 others on its loopback. It must be 50 us at most.
func BenchmarkOwner(b *testing.B) {
	if os.Getenv("SLUICE_BENCH") == "" {
		b.Skip("set SLUICE_BENCH=1")
	}
	const others = 10_000
	n := newNetwork(b)
	s := socketsIn(b, n)
	var clients []net.Conn
	for len(clients) < others {
		// Connected, and not accepted: the queue of a listener has room for so many.
		l := listen(b, n, "127.0.0.1:0")
		n.in(b, func() {
			for range 2500 {
				c, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					b.Error(err)
					return
				}
				clients = append(clients, c)
			}
		})
		if b.Failed() {
			b.FailNow()
		}
	}
	defer func() {
		for _, c := range clients {
			c.Close()
		}
	}()
	ends := make([][2]netip.AddrPort, len(clients))
	for i, c := range clients {
		ends[i] = [2]netip.AddrPort{c.LocalAddr().(*net.TCPAddr).AddrPort(), c.RemoteAddr().(*net.TCPAddr).AddrPort()}
	}
	now := time.Now()
	i := 0
	var before, after unix.Rusage
	runtime.LockOSThread()
	unix.Getrusage(unix.RUSAGE_THREAD, &before)
	for b.Loop() {
		at := ends[i%len(ends)]
		i++
		if owner, err := s.Owner(now, at[0], at[1]); owner != "uid:0" || err != nil {
			b.Fatal(owner, err)
		}
	}
	unix.Getrusage(unix.RUSAGE_THREAD, &after)
	cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(cpu)/float64(i), "cpu-ns/op") // on a busy machine the time alone says little
}
