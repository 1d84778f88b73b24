package lockdir

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/sidecar/lockfile"
)

const threeQuarters = "15/20 (75%)"

// show has usage files of 15/20 for some domains, written at epoch 7.
func (r *rig) show(domains ...string) {
	var files []lockfile.Usage
	for _, d := range domains {
		files = append(files, lockfile.Usage{Domain: d, Content: threeQuarters, Epoch: 7})
	}
	r.d.ShowUsage(files)
}

func (r *rig) write(name, content string) {
	r.t.Helper()
	r.must(os.WriteFile(filepath.Join(r.path, name), []byte(content), 0o644))
}

// wantFiles checks all files of the directory, given as name=content.
func (r *rig) wantFiles(want ...string) {
	r.t.Helper()
	entries, err := os.ReadDir(r.path)
	r.must(err)
	var got []string
	for _, e := range entries {
		b, _ := os.ReadFile(filepath.Join(r.path, e.Name()))
		got = append(got, e.Name()+"="+string(b))
	}
	if !slices.Equal(got, want) {
		r.t.Errorf("files %q, want %q", got, want)
	}
}

func (r *rig) inode(name string) uint64 {
	r.t.Helper()
	var st unix.Stat_t
	r.must(unix.Lstat(filepath.Join(r.path, name), &st))
	return st.Ino
}

func TestUsageFilesComeChangeAndGo(t *testing.T) {
	r := newRig(t)
	r.show("example.com", "example.org")
	r.wantFiles("example.com="+threeQuarters, "example.org="+threeQuarters)
	st, err := os.Stat(filepath.Join(r.path, "example.com"))
	r.must(err)
	if st.Mode() != 0o644 {
		t.Errorf("mode %v", st.Mode())
	}
	before := r.inode("example.com")
	r.d.ShowUsage([]lockfile.Usage{{Domain: "example.com", Content: threeQuarters}, {Domain: "example.org", Content: "16/20 (80%)"}})
	r.wantFiles("example.com="+threeQuarters, "example.org=16/20 (80%)")
	if r.inode("example.com") != before {
		t.Error("a file whose content did not change was written again")
	}
	r.show("example.org")
	r.wantFiles("example.org=" + threeQuarters)
	r.wantEvents(r.settle())
	r.show()
	r.wantFiles()
	r.wantEvents(r.settle())
	if r.notes.writes != 0 {
		t.Errorf("%d notes were written", r.notes.writes)
	}
}

func TestUsageFileRemovedByHandResets(t *testing.T) {
	r := newRig(t)
	r.show("example.com", "example.org")
	r.must(os.Remove(filepath.Join(r.path, "example.com")))
	r.d.scan(r.now)
	r.d.ShowUsage([]lockfile.Usage{{Domain: "example.com", Content: "16/20 (80%)"}}) // not before the hand was heard
	r.wantFiles()
	events := r.settle()
	r.wantEvents(events, "released example.com")
	if r.notes.writes != 0 {
		t.Errorf("%d notes were written", r.notes.writes)
	}
	if len(events) == 1 && (events[0].File.Epoch != 7 || events[0].File.Content != threeQuarters) {
		t.Errorf("%+v", events[0].File)
	}
	r.wantEvents(r.settle())
	r.show("example.com") // sent on
	r.wantFiles("example.com=" + threeQuarters)
	r.wantEvents(r.settle())
}

// A removal that comes just before a refresh is seen by the refresh first.
func TestUsageFileRemovedUnseenIsNotWrittenAgain(t *testing.T) {
	r := newRig(t)
	r.show("example.com")
	r.must(os.Remove(filepath.Join(r.path, "example.com")))
	r.d.ShowUsage([]lockfile.Usage{{Domain: "example.com", Content: "16/20 (80%)", Epoch: 7}})
	r.wantFiles()
	r.wantEvents(r.settle(), "released example.com")
}

func TestUsageFileOfTheEpochLastShown(t *testing.T) {
	r := newRig(t)
	r.show("example.com")
	r.d.ShowUsage([]lockfile.Usage{{Domain: "example.com", Content: threeQuarters, Epoch: 8}})
	r.must(os.Remove(filepath.Join(r.path, "example.com")))
	if e := r.settle(); len(e) != 1 || e[0].File.Epoch != 8 {
		t.Errorf("%+v", e)
	}
}

func TestUsageFilesOfAHandAreLeftAlone(t *testing.T) {
	for what, put := range map[string]func(r *rig){
		"there before": func(r *rig) { r.write("example.com", "cPanel") },
		"edited": func(r *rig) {
			r.show("example.com")
			r.write("example.com", "cPanel")
		},
		"replaced": func(r *rig) {
			r.show("example.com")
			r.write("other", "cPanel")
			r.must(os.Rename(filepath.Join(r.path, "other"), filepath.Join(r.path, "example.com")))
		},
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t)
			put(r)
			r.d.ShowUsage([]lockfile.Usage{{Domain: "example.com", Content: "16/20 (80%)"}})
			r.wantFiles("example.com=cPanel")
			r.show()
			r.wantFiles("example.com=cPanel")
			r.must(os.Remove(filepath.Join(r.path, "example.com")))
			r.wantEvents(r.settle())
		})
	}
}

func TestUsageFilesOfAnEarlierProcess(t *testing.T) {
	r := newRig(t)
	r.show("stays.example", "changes.example", "goes.example")
	r.write("hand.example", "15/20 (75%)\n")     // as echo writes it
	r.write("odd.example", "15/20 (76%)")        // not what we would write
	r.write("less.example", "9/20 (45%)")        // never
	r.write("more.example", threeQuarters+"x\n") // more than we write
	r.write("private.example", threeQuarters)
	r.must(os.Chmod(filepath.Join(r.path, "private.example"), 0o600))
	stays := r.inode("stays.example")
	r.open()
	r.d.ShowUsage([]lockfile.Usage{{Domain: "stays.example", Content: threeQuarters, Epoch: 9}, {Domain: "changes.example", Content: "20/20 (100%)"}})
	r.wantFiles("changes.example=20/20 (100%)", "hand.example=15/20 (75%)\n", "less.example=9/20 (45%)",
		"more.example="+threeQuarters+"x\n", "odd.example=15/20 (76%)", "private.example="+threeQuarters,
		"stays.example="+threeQuarters)
	if r.inode("stays.example") != stays {
		t.Error("a file that was right was written again")
	}
	r.must(os.Remove(filepath.Join(r.path, "stays.example")))
	if e := r.settle(); len(e) != 1 || e[0].File.Epoch != 9 {
		t.Errorf("%+v", e)
	}
}

// Later a file that looks like ours, but was made by an operator, is the operator's.
func TestUsageFileThatLooksLikeOursLater(t *testing.T) {
	r := newRig(t)
	r.show()
	r.write("example.com", threeQuarters)
	r.show()
	r.wantFiles("example.com=" + threeQuarters)
}

func TestUsageFilesOfALostDirectoryAreNoHand(t *testing.T) {
	for what, lose := range map[string]func(r *rig){
		"removed":          func(r *rig) { r.rmRf() },
		"removed and made": func(r *rig) { r.rmRf(); r.must(os.Mkdir(r.path, 0o755)) },
		"file by file": func(r *rig) {
			r.must(os.Remove(filepath.Join(r.path, "example.com")))
			r.d.scan(r.now)
			r.rmRf()
		},
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t)
			r.show("example.com", "example.org")
			lose(r)
			r.show("example.com") // not there yet, or empty: written if it is
			r.wantEvents(r.settle(), "lost")
			r.show("example.com")
			r.wantFiles("example.com=" + threeQuarters)
			r.wantEvents(r.settle())
		})
	}
}

func TestUsageFilesOfADirectoryThatComesBack(t *testing.T) {
	r := newRig(t)
	r.show("stays.example", "goes.example")
	away := r.path + ".away"
	r.must(os.Rename(r.path, away))
	r.settle()
	r.show("stays.example")
	r.rmRf()
	r.must(os.Rename(away, r.path))
	r.wantEvents(r.settle(), "lost")
	r.show("stays.example")
	r.wantFiles("stays.example=" + threeQuarters)
	r.wantEvents(r.settle())
}

// moveAway takes a file out of the directory; the func puts it back.
func (r *rig) moveAway(name string) (back func()) {
	r.t.Helper()
	away := filepath.Join(r.t.TempDir(), name)
	r.must(os.Rename(filepath.Join(r.path, name), away))
	return func() { r.must(os.Rename(away, filepath.Join(r.path, name))) }
}

func TestUsageFileThatIsBackInAMomentWasNotRemoved(t *testing.T) {
	for what, gone := range map[string][]string{"all back": nil, "another stays away": {"released example.org"}} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t)
			r.show("example.com", "example.org")
			back := r.moveAway("example.com")
			r.d.scan(r.now)
			if gone != nil {
				r.moveAway("example.org")
			}
			back()
			r.wantEvents(r.settle(), gone...)
		})
	}
}

// replaceDir puts a new directory in the place of the old.
func (r *rig) replaceDir() {
	r.t.Helper()
	r.must(os.Rename(r.path, r.path+".old"))
	r.must(os.Mkdir(r.path, 0o755))
}

func TestUsageFileMissedInAReplacedDirectoryIsNoHand(t *testing.T) {
	r := newRig(t)
	r.show("example.com")
	r.moveAway("example.com")
	r.d.scan(r.now)
	r.replaceDir()
	r.wantEvents(r.settle(), "lost")
}

func TestUsageFileRemovedInTheNewDirectory(t *testing.T) {
	r := newRig(t)
	r.show("example.com")
	r.moveAway("example.com")
	r.d.scan(r.now)
	r.replaceDir()
	r.show("example.org")
	r.moveAway("example.org")
	r.wantEvents(r.settle(), "lost", "released example.org")
}

// The rest of a refresh does not go into a directory that came meanwhile: what
// is in there was not looked at.
func TestUsageRefreshEndsWithItsDirectory(t *testing.T) {
	r := newRig(t)
	r.show("example.com")
	r.replaceDir()
	want := map[string]lockfile.Usage{"example.org": {Domain: "example.org", Content: threeQuarters}}
	r.must(r.d.writeUsageBatch([]string{"example.org"}, want))
	r.wantFiles()
}

// What an earlier process left goes as soon as it can.
func TestStaleUsageFileInAReadOnlyDirectory(t *testing.T) {
	ownMounts(t)
	r := newRig(t)
	r.mount("")
	r.show("example.com")
	r.remount(unix.MS_RDONLY)
	r.open()
	r.show()
	if err := r.d.Failure(); err == nil || !strings.Contains(err.Error(), "remove usage file "+r.path+"/example.com: read-only file system") {
		t.Errorf("failure: %v", err)
	}
	r.remount(0)
	r.show()
	r.wantFiles()
	r.d.scan(r.now)
	if err := r.d.Failure(); err != nil {
		t.Errorf("failure: %v", err)
	}
}

func TestHostileUsageNames(t *testing.T) {
	r := newRig(t)
	r.show(append(hostile, "track", "max_hourly_example.com", ".sluice-0011", "example.com")...)
	r.wantFiles("example.com=" + threeQuarters)
	if outside, _ := os.ReadDir(filepath.Dir(r.path)); len(outside) != 1 {
		t.Errorf("written outside: %v", outside)
	}
}

func TestUsageFilesFollowNoSymlink(t *testing.T) {
	r := newRig(t)
	outside := filepath.Join(t.TempDir(), "outside")
	r.must(os.WriteFile(outside, []byte(threeQuarters), 0o644))
	link := filepath.Join(r.path, "link.example")
	r.must(os.Symlink(outside, link))
	r.must(os.Mkdir(filepath.Join(r.path, "dir.example"), 0o755))
	r.must(unix.Mkfifo(filepath.Join(r.path, "fifo.example"), 0o644))
	r.must(os.Link(outside, filepath.Join(r.path, "hard.example")))
	r.show("swapped.example")
	r.must(os.Remove(filepath.Join(r.path, "swapped.example")))
	r.must(os.Symlink(outside, filepath.Join(r.path, "swapped.example")))
	for _, content := range []string{"16/20 (80%)", "17/20 (85%)"} {
		var all []lockfile.Usage
		for _, name := range []string{"link", "dir", "fifo", "hard", "swapped"} {
			all = append(all, lockfile.Usage{Domain: name + ".example", Content: content})
		}
		r.d.ShowUsage(all)
	}
	r.show()
	r.wantEvents(r.settle())
	if b, _ := os.ReadFile(outside); string(b) != threeQuarters {
		t.Errorf("written through a link: %q", b)
	}
	if entries, _ := os.ReadDir(r.path); len(entries) != 5 {
		t.Errorf("%d files are left of 5", len(entries))
	}
}

func TestUsageFilesAndLocksSideBySide(t *testing.T) {
	r := newRig(t)
	r.make(hourly)
	r.show("example.com")
	for _, name := range []string{"example.com", "max_hourly_example.com"} { // rm *
		r.must(os.Remove(filepath.Join(r.path, name)))
	}
	r.wantEvents(r.settle(), "released example.com", "released max_hourly_example.com")
	if f := r.d.Files(""); len(f) != 0 {
		t.Errorf("files %v", f)
	}
}

func TestRunNoticesAUsageFileRemovedAtOnce(t *testing.T) {
	r := newRig(t)
	events := r.running(never, ignore)
	r.create(other) // waits for the watch to stand
	next(t, events, lockfile.Made)
	r.show("example.com")
	r.must(os.Remove(filepath.Join(r.path, "example.com")))
	if e := next(t, events, lockfile.RemovedByHand); e.File.Domain != "example.com" || e.File.Kind != lockfile.OfUsage {
		t.Errorf("%+v", e)
	}
}

func BenchmarkShowUsage(b *testing.B) {
	const domains = 10_000
	files := make([]lockfile.Usage, domains)
	for i := range files {
		files[i] = lockfile.Usage{Domain: fmt.Sprintf("d%05d.example", i)}
	}
	for _, changed := range []int{0, domains} {
		b.Run(fmt.Sprintf("changed=%d", changed), func(b *testing.B) {
			r := newRig(b)
			var longest time.Duration
			r.d.ShowUsage(files)
			for i := 0; b.Loop(); i++ {
				for n := range changed {
					files[n].Content = fmt.Sprintf("%d/20 (%s%%)", i, strings.Repeat("5", 1+i%3))
				}
				done := make(chan struct{})
				go func() { r.d.ShowUsage(files); close(done) }()
				longest = max(longest, r.longestWait(done))
			}
			b.ReportMetric(float64(longest.Microseconds()), "longest-wait-µs")
		})
	}
	b.Run("scan", func(b *testing.B) {
		r := newRig(b)
		r.d.ShowUsage(files)
		for b.Loop() {
			r.d.scan(r.now)
		}
	})
}

// longestWait is how long somebody else has had to wait for the directory.
func (r *rig) longestWait(done chan struct{}) (longest time.Duration) {
	for {
		select {
		case <-done:
			return longest
		case <-time.After(time.Millisecond):
			start := time.Now()
			r.must(r.d.Unmake(hourly))
			longest = max(longest, time.Since(start))
		}
	}
}
