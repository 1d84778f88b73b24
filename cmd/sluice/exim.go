package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"os/user"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// An exim is the Exim of this machine: its user, and its queue.
type exim struct {
	binary string
	user   string // login name of Exim's own user; empty if unknown
	anyone bool   // any local user may send in any name: untrusted_set_sender
	helper string // socket of `sluice deliver`, which runs Exim where we are confined; need not be there
}

// findExim asks Exim which user it runs as. Where Exim cannot say, because it
// is not installed yet or its configuration is broken just now, it is one of
// the names that packages use.
func findExim(ctx context.Context, binary string) exim {
	e := exim{binary: binary, anyone: eximOption(ctx, binary, "untrusted_set_sender") != ""}
	if said := eximOption(ctx, binary, "exim_user"); said != "" {
		if u, err := user.LookupId(said); err == nil { // Exim may print the number
			said = u.Username
		}
		e.user = said
		return e
	}
	for _, name := range []string{"Debian-exim", "exim", "mailnull", "mail"} {
		if _, ok := uidOf(name); ok {
			e.user = name
			return e
		}
	}
	return e
}

// eximOption is the value of an option of Exim's configuration, empty if it
// has none or Exim cannot say.
func eximOption(ctx context.Context, binary, name string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, binary, "-bP", name).Output()
	value, is := strings.CutPrefix(strings.TrimSpace(string(out)), name+" =")
	if err != nil || !is {
		return ""
	}
	return strings.TrimSpace(value)
}

// say runs Exim for what it prints, as a user, or for "" as we are.
func (e exim) say(ctx context.Context, user string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, e.binary, args...)
	c.Dir = "/" // where every user may be
	if user != "" {
		attr, err := asUser(user)
		if err != nil {
			return "", err
		}
		c.SysProcAttr = attr
	}
	out, err := c.Output()
	said := strings.TrimSpace(string(out))
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		return said, fmt.Errorf("%s %s: %s", e.binary, strings.Join(args, " "), cmp.Or(strings.TrimSpace(string(failed.Stderr)), said, failed.Error()))
	}
	return said, err
}

// asUser is how a program is run as another user, without groups but its own.
func asUser(name string) (*syscall.SysProcAttr, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
	gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, errors.Join(errUID, errGID)
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
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !messageID.MatchString(id) })
	if len(ids) == 0 {
		return nil
	}
	if c, err := net.Dial("unix", e.helper); err == nil {
		defer c.Close()
		return askHelper(ctx, c.(*net.UnixConn), ids)
	}
	return e.deliver(ctx, ids)
}

// deliver runs Exim. Its output goes nowhere, because it may outlive us; what
// becomes of each message is in Exim's own log.
func (e exim) deliver(ctx context.Context, ids []string) error {
	c := exec.Command(e.binary, append([]string{"-M"}, ids...)...)
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
			return fmt.Errorf("run %s -M for %d messages: %w", e.binary, len(ids), err)
		}
		return nil
	}
}

// askHelper has `sluice deliver` run Exim, and waits for it to end. The helper
// says nothing unless something went wrong.
func askHelper(ctx context.Context, c *net.UnixConn, ids []string) error {
	defer context.AfterFunc(ctx, func() { c.Close() })()
	_, err := io.WriteString(c, strings.Join(ids, "\n")+"\n")
	if err = errors.Join(err, c.CloseWrite()); err != nil {
		return fmt.Errorf("hand messages to sluice deliver: %w", err)
	}
	said, err := io.ReadAll(io.LimitReader(c, 1<<10))
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return fmt.Errorf("wait for sluice deliver: %w", err)
	case len(said) > 0:
		return fmt.Errorf("sluice deliver: %s", bytes.TrimSpace(said))
	}
	return nil
}

// deliverCmd is for sluice-deliver@.service. What it reads it does not trust.
type deliverCmd struct{}

// Help is the long help.
func (deliverCmd) Help() string {
	return `Reads message ids, one a line, and has Exim try each of them now. For the unit
sluice-deliver@.service: sluice serve itself is confined there and cannot run Exim.

Example:
  echo 1sempe-0005dd-0q | sluice deliver`
}

func (deliverCmd) Run(t *terminal) error {
	config, err := t.loadConfig()
	if err != nil {
		return fmt.Errorf("deliver: %w", err)
	}
	var ids []string
	lines := bufio.NewScanner(io.LimitReader(t.stdin, 1<<16))
	for lines.Scan() {
		if id := lines.Text(); messageID.MatchString(id) {
			ids = append(ids, id)
		} else {
			return fmt.Errorf("deliver: %q is no message id of Exim's", id)
		}
	}
	if err := lines.Err(); err != nil || len(ids) == 0 {
		return err
	}
	if err := (exim{binary: config.Exim.Binary}).deliver(context.WithoutCancel(t.ctx), ids); err != nil {
		fmt.Fprintln(t.stdout, err) // to whoever asked on the socket
		return err
	}
	return nil
}
