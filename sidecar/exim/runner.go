package exim

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// QueueEvery is how often a daemon of Exim tries by itself what is in the default queue and not frozen,
// as the command line of the one that runs says (Debian writes QUEUEINTERVAL there); 0: none is known
// to. proc is /proc.
func (e Exim) QueueEvery(proc string) (every time.Duration) {
	binary, err := os.Stat(e.Binary)
	if err != nil {
		return 0
	}
	lines, _ := filepath.Glob(filepath.Join(proc, "[0-9]*", "cmdline")) // the pattern is a good one
	for _, line := range lines {
		process := filepath.Dir(line)
		if exe, err := os.Stat(filepath.Join(process, "exe")); err != nil || !os.SameFile(exe, binary) || !e.owns(process) {
			continue
		}
		text, err := os.ReadFile(line)
		if err != nil { // it has ended
			continue
		}
		if d := queueInterval(strings.Split(string(text), "\x00")); d > 0 && (every == 0 || d < every) {
			every = d
		}
	}
	return every
}

// owns reports whether a process is root's or of Exim's own user, by its real user: whatever the
// arguments are with which another user has called Exim, that is no daemon.
func (e Exim) owns(process string) bool {
	status, err := os.ReadFile(filepath.Join(process, "status"))
	if err != nil {
		return false
	}
	for line := range bytes.Lines(status) {
		if ids, is := bytes.CutPrefix(line, []byte("Uid:")); is {
			real, err := strconv.Atoi(string(bytes.Fields(ids)[0]))
			own, known := UID(e.User)
			return err == nil && (real == 0 || known && real == own)
		}
	}
	return false
}

// queueOption is Exim's -q with its flags: qq, i, f, ff and l. With G it is another queue's.
var queueOption = regexp.MustCompile(`^-qq?i?f{0,2}l?((?:\d+[wdhms])*)$`)

// queueInterval is the time of a -q of a command line, in the same argument or in the next; 0 without.
func queueInterval(args []string) time.Duration {
	for i, a := range args {
		m := queueOption.FindStringSubmatch(a)
		if m == nil {
			continue
		}
		text := m[1]
		if text == "" && i+1 < len(args) {
			text = args[i+1]
		}
		if d := eximTime(text); d > 0 {
			return d
		}
	}
	return 0
}

// eximTime is a time as Exim has it: 1w2d3h4m5s; 0 if it is none.
func eximTime(text string) (d time.Duration) {
	units := map[byte]time.Duration{'w': 7 * 24 * time.Hour, 'd': 24 * time.Hour, 'h': time.Hour, 'm': time.Minute, 's': time.Second}
	for text != "" {
		i := strings.IndexAny(text, "wdhms")
		if i < 1 {
			return 0
		}
		n, err := strconv.Atoi(text[:i])
		if err != nil || n < 0 || n > 1_000_000 {
			return 0
		}
		d, text = d+time.Duration(n)*units[text[i]], text[i+1:]
	}
	return d
}
