package main

import (
	"context"
	"fmt"
	"os/exec"
	"os/user"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// An exim is the Exim of this machine: its user, and its queue.
type exim struct {
	binary string
	user   string // login name of Exim's own user; empty if unknown
}

// findExim asks Exim which user it runs as. Where Exim cannot say, because it
// is not installed yet or its configuration is broken just now, it is one of
// the names that packages use.
func findExim(ctx context.Context, binary string) exim {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, binary, "-bP", "exim_user").Output()
	said, is := strings.CutPrefix(strings.TrimSpace(string(out)), "exim_user = ")
	if err == nil && is {
		if u, err := user.LookupId(said); err == nil { // Exim may print the number
			said = u.Username
		}
		return exim{binary, said}
	}
	for _, name := range []string{"Debian-exim", "exim", "mailnull", "mail"} {
		if _, ok := uidOf(name); ok {
			return exim{binary, name}
		}
	}
	return exim{binary, ""}
}

func uidOf(name string) (int, bool) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, false
	}
	uid, err := strconv.Atoi(u.Uid)
	return uid, err == nil
}

// messageID is an id of Exim, up to 4.96 and later. Ids come from whoever may
// ask, and nothing else must become an argument of a program that runs as root.
var messageID = regexp.MustCompile(`^[0-9A-Za-z]{6}-([0-9A-Za-z]{6}-[0-9A-Za-z]{2}|[0-9A-Za-z]{11}-[0-9A-Za-z]{4})$`)

// Deliver is that of sidecar.Queue.
func (e exim) Deliver(ctx context.Context, ids []string) error {
	args := []string{"-M"}
	for _, id := range ids {
		if messageID.MatchString(id) {
			args = append(args, id)
		}
	}
	if len(args) == 1 {
		return nil
	}
	// Its output goes nowhere, because it may outlive us; what becomes of each
	// message is in Exim's own log.
	c := exec.Command(e.binary, args...)
	if err := c.Start(); err != nil {
		return fmt.Errorf("run %s -M: %w", e.binary, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }() // ends with the process, at the latest with ours
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("run %s -M for %d messages: %w", e.binary, len(args)-1, err)
		}
		return nil
	}
}
