package quarantine

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"sluice/sidecar/envelope"
	"sluice/sidecar/exim"
)

// LatePath is the file of senders whose mail may be late, where exim-config/retry.conf looks for it.
const LatePath = "/etc/sluice/late"

// Late are the envelope senders whose messages Exim may try for longer than the site's retry
// rules say, by a rule in front of those that looks into this file (lsearch). Without it, what was
// in the quarantine for too long would bounce at its first 4xx.
type Late struct {
	Path  string
	Group int // Exim's, which reads it; all others must not: it says who sends
}

// A LateMessage is one that may be late.
type LateMessage struct{ ID, Sender string }

const (
	// retryEnd is when Exim gives up by the retry rule of its default configuration.
	retryEnd = 4 * 24 * time.Hour
	// beforeEnd is how long before its end a message is already late: it has lost time in the
	// quarantine, and is to be tried more than once.
	beforeEnd = 24 * time.Hour
	// maxAsked is for how many domains Exim is asked when it gives up. Few sites have a rule for one.
	maxAsked = 50
)

// late are the messages of the quarantine that would bounce soon, or at their first failure. For
// bounces Exim knows no later end: nobody waits for them.
func (q Queues) late(ctx context.Context, now time.Time, messages []Place) (late []LateMessage) {
	ends := map[string]time.Duration{}
	for _, p := range messages {
		file, there := exim.FindSpoolFile(q.Directory, p.Queue, p.ID)
		arrived, known := envelope.IDTime(p.ID)
		if !there || !known {
			continue
		}
		h, err := file.Header()
		if err != nil || h.Sender == "" || len(h.Left) == 0 {
			continue
		}
		if now.Sub(arrived) > q.retryEnd(ctx, ends, envelope.DomainOf(h.Left[0]))-beforeEnd {
			late = append(late, LateMessage{p.ID, h.Sender})
		}
	}
	return late
}

// retryEnd is when Exim gives up on mail for a domain. known are those that it was asked for.
func (q Queues) retryEnd(ctx context.Context, known map[string]time.Duration, domain string) time.Duration {
	if len(known) >= maxAsked {
		domain = ""
	}
	end, is := known[domain]
	if is {
		return end
	}
	end, said := q.Exim.RetryEnd(ctx, cmp.Or(domain, "retry.invalid"))
	if !said {
		end = retryEnd
	}
	known[domain] = end
	return end
}

// Add adds messages, before they are restored.
func (l Late) Add(messages []LateMessage) error {
	return l.change(func(ids map[string][]string) {
		for _, m := range messages {
			if !slices.Contains(ids[m.Sender], m.ID) {
				ids[m.Sender] = append(ids[m.Sender], m.ID)
			}
		}
	})
}

// Tidy takes out what is in the queue no more, and the senders that have nothing left there.
func (l Late) Tidy(queued func(id string) bool) error {
	if _, err := os.Stat(l.Path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return l.change(func(ids map[string][]string) {
		for sender := range ids {
			ids[sender] = slices.DeleteFunc(ids[sender], func(id string) bool { return !queued(id) })
		}
		maps.DeleteFunc(ids, func(_ string, ids []string) bool { return len(ids) == 0 })
	})
}

// change changes the file, unless it stays as it is, while no other program does.
func (l Late) change(change func(ids map[string][]string)) error {
	err := l.locked(func() error {
		before, err := l.read()
		if err != nil {
			return err
		}
		after := make(map[string][]string, len(before))
		for sender, ids := range before {
			after[sender] = slices.Clone(ids)
		}
		if change(after); maps.EqualFunc(before, after, slices.Equal) {
			return nil
		}
		return l.write(after)
	})
	if err != nil {
		return fmt.Errorf("change the list of senders whose mail may be late: %w", err)
	}
	return nil
}

// locked calls do under a lock of the directory: the file itself is replaced.
func (l Late) locked(do func() error) error {
	if err := os.MkdirAll(filepath.Dir(l.Path), 0o755); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(l.Path))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", dir.Name(), err)
	}
	return do()
}

// read reads the file, the ids by sender. What a hand has added counts as of no message: Tidy
// takes it out.
func (l Late) read() (ids map[string][]string, err error) {
	ids = map[string][]string{}
	f, err := os.Open(l.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return ids, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	lines, sender := bufio.NewScanner(f), ""
	for lines.Scan() {
		line := lines.Text()
		if id, more := strings.CutPrefix(line, " "); more {
			ids[sender] = append(ids[sender], id)
			continue
		}
		quoted, _ := strings.CutSuffix(line, ":")
		if sender, err = unquote(quoted); err == nil {
			ids[sender] = nil
		}
	}
	delete(ids, "")
	return ids, lines.Err()
}

// write replaces the file. Behind each sender, which is the key of the lookup, are the ids of the
// messages in lines of their own.
func (l Late) write(ids map[string][]string) error {
	var text strings.Builder
	for _, sender := range slices.Sorted(maps.Keys(ids)) {
		fmt.Fprintf(&text, "%s:\n", quote(sender))
		for _, id := range ids[sender] {
			fmt.Fprintf(&text, " %s\n", id)
		}
	}
	f, err := os.CreateTemp(filepath.Dir(l.Path), "late.*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	_, err = f.WriteString(text.String())
	err = errors.Join(err, f.Chown(-1, l.Group), f.Chmod(0o640), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), l.Path)
	}
	return err
}

// quote is a key of an lsearch file (Exim specification, 9.3): in quotes a backslash protects the
// next character.
func quote(key string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) + `"`
}

var errNotQuoted = errors.New("it is not in quotes")

func unquote(text string) (string, error) {
	inside, starts := strings.CutPrefix(text, `"`)
	inside, ends := strings.CutSuffix(inside, `"`)
	if !starts || !ends {
		return "", errNotQuoted
	}
	var key strings.Builder
	for i := 0; i < len(inside); i++ {
		if inside[i] == '\\' && i+1 < len(inside) {
			i++
		}
		key.WriteByte(inside[i])
	}
	return key.String(), nil
}
