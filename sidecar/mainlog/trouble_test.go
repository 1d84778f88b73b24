package mainlog_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sluice/sidecar/logline"
	"sluice/sidecar/mainlog"
)

func TestFileThatIsAbsentAtFirst(t *testing.T) {
	t.Parallel()
	l, lines := newLog(t), numbered(0, 3)
	r := follow(t, l.path, nil)
	r.await("trouble", func() bool { return len(r.troubles) == 1 })
	l.add(lines)
	r.want(lines)
	r.await("the end of the trouble", func() bool { return r.mended == 1 && len(r.troubles) == 1 })
}

// A log that cannot be found for a while is read on, with all that was written
// meanwhile.
func TestUnreadableForAWhile(t *testing.T) {
	t.Parallel()
	l, lines := newLog(t), numbered(0, 9)
	real := newLog(t)
	real.add(lines[:3])
	l.must(os.Symlink(real.path, l.path))
	r := follow(t, l.path, nil)
	r.want(lines[:3])
	l.must(os.Remove(l.path))
	l.must(os.Symlink(l.path, l.path)) // to itself: even root cannot open it
	r.await("trouble", func() bool { return len(r.troubles) == 1 })
	real.add(lines[3:6])
	l.must(os.Remove(l.path))
	l.must(os.Symlink(real.path, l.path))
	real.add(lines[6:])
	r.want(lines)
	r.await("the end of the trouble", func() bool { return r.mended == 1 && len(r.troubles) == 1 })
}

// A long log is said to be caught up with, and how far it is.
func TestProgressOfALongLog(t *testing.T) {
	t.Parallel()
	l, lines := newLog(t), numbered(0, 200_000)
	l.add(lines)
	info, err := os.Stat(l.path)
	l.must(err)
	r := &reader{t: t}
	f := mainlog.New(mainlog.Options{Path: l.path, Location: time.UTC, Consumer: r, Events: r})
	var seen []logline.Progress
	r.kept = func() {
		if len(r.lines) > 0 { // or it is the one at the first start
			seen = append(seen, f.Progress())
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	r.await("all lines", func() bool { return len(r.lines) == len(lines) && r.caughtUp == 1 })
	stop()
	l.must(<-ended)
	if r.behind != info.Size() || len(seen) < 3 {
		t.Fatalf("%d bytes of %d are said to be unread; %d checkpoints", r.behind, info.Size(), len(seen))
	}
	for i, p := range seen {
		last := i == len(seen)-1
		if p.File != l.path || p.Size != info.Size() || (p.Read == p.Size) != last || i > 0 && p.Read <= seen[i-1].Read || p.Last.IsZero() {
			t.Errorf("%d of %d: %+v", i, len(seen), p)
		}
	}
}

// However often it is tried, trouble is reported once.
func TestPathThatIsADirectory(t *testing.T) {
	t.Parallel()
	l, lines := newLog(t), numbered(0, 3)
	l.must(os.Mkdir(l.path, 0o750))
	r := follow(t, l.path, nil)
	r.await("trouble", func() bool { return len(r.troubles) == 1 })
	for n := range 20 { // each has it tried again
		l.must(os.WriteFile(fmt.Sprintf("%s/other%d", filepath.Dir(l.path), n), nil, 0o600))
	}
	l.must(os.Remove(l.path))
	l.add(lines)
	r.want(lines)
	r.await("the end of the trouble", func() bool { return r.mended == 1 && len(r.troubles) == 1 })
}
