package exim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// queueName is a name of a named queue that cannot be taken for an option or a path.
var queueName = regexp.MustCompile(`^[0-9A-Za-z_][0-9A-Za-z_.-]*$`)

// Act has Exim do something to messages of one of its queues, by the options of its command line
// that stand in front of ids: -Mrm, or -MG with a queue. queue is where they are; empty is the
// main one. What is no message id is left out. It returns what Exim has printed.
//
// Exim's exit code says nothing of a message (it is 0 where one was locked, or moved by half): the
// error is only that Exim could not be run. A process that has begun is not ended by ctx or by ^C,
// which would leave a message half moved; it is let go instead if it may take as long as a delivery.
func (e Exim) Act(ctx context.Context, queue string, ids []string, options ...string) (said string, err error) {
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !messageID.MatchString(id) })
	if queue != "" && !queueName.MatchString(queue) {
		return "", fmt.Errorf("run %s %s: %q is no name of a queue that can be given to it", e.Binary, options[0], queue)
	}
	if len(ids) == 0 {
		return "", nil
	}
	args := slices.Concat(options, ids)
	if queue != "" {
		args = append([]string{"-qG" + queue}, args...)
	}
	c := exec.Command(e.Binary, args...)
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.WaitDelay = time.Second // a delivery that it has begun may keep its output open
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		return "", fmt.Errorf("run %s %s: %w", e.Binary, options[0], err)
	}
	if options[0] == "-M" {
		ended := make(chan struct{})
		go func() { c.Wait(); close(ended) }() // ends with Exim, at the latest with this program
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-ended:
			return out.String(), nil
		}
	}
	exit := (*exec.ExitError)(nil)
	if err := c.Wait(); err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		return "", fmt.Errorf("run %s %s: %w", e.Binary, options[0], err)
	}
	return out.String(), nil
}

// RetryEnd is how long after a message has come Exim gives up on mail for a domain, by the last of
// its retry rules; 0: at its first failure. false: Exim does not say.
func (e Exim) RetryEnd(ctx context.Context, domain string) (end time.Duration, known bool) {
	out, err := e.Run(ctx, "", "-brt", "x@"+domain)
	if strings.HasPrefix(out, "No retry information found") {
		return 0, true
	}
	_, rules, found := strings.Cut(out, "Retry rule: ")
	fields := strings.Fields(rules)
	if err != nil || !found || len(fields) < 3 {
		return 0, false
	}
	for _, rule := range fields[2:] { // F,2h,15m; G,16h,1h,1.5; F,4w2d,6h;
		parts := strings.Split(rule, ",")
		if len(parts) < 2 {
			continue
		}
		if d, ok := timeOf(strings.TrimSuffix(parts[1], ";")); ok {
			end = max(end, d)
		}
	}
	return end, true
}

// units are those of Exim's times.
var units = map[byte]time.Duration{'w': 7 * 24 * time.Hour, 'd': 24 * time.Hour, 'h': time.Hour, 'm': time.Minute, 's': time.Second}

// timeOf is a time as Exim prints it: 4w2d.
func timeOf(text string) (d time.Duration, ok bool) {
	for text != "" {
		i := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' })
		if i < 1 || units[text[i]] == 0 {
			return 0, false
		}
		n, err := strconv.Atoi(text[:i])
		if err != nil {
			return 0, false
		}
		d += time.Duration(n) * units[text[i]]
		text = text[i+1:]
	}
	return d, d > 0
}
