package main

import (
	"context"
	"log/slog"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"time"
)

// mailUIDs are the users that may ask on the policy socket beside root: Exim's,
// for its ACLs ask as it, and Postfix's.
func mailUIDs(ctx context.Context, binary string, log *slog.Logger) []int {
	var uids []int
	exim, found := eximUser(ctx, binary)
	if found {
		uids = append(uids, exim)
	} else {
		log.Warn("Exim's user is not known, only root may ask: Exim's ACLs get no answer; set exim.binary", "exim.binary", binary)
	}
	if postfix, ok := uidOf("postfix"); ok {
		uids = append(uids, postfix)
	}
	return uids
}

// eximUser asks Exim which user it runs as. Where Exim cannot say, because it
// is not installed yet or its configuration is broken just now, it is one of
// the names that packages use.
func eximUser(ctx context.Context, binary string) (uid int, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, binary, "-bP", "exim_user").Output()
	if name, is := strings.CutPrefix(strings.TrimSpace(string(out)), "exim_user = "); err == nil && is {
		if uid, ok = uidOf(name); ok {
			return uid, true
		}
	}
	for _, name := range []string{"Debian-exim", "exim", "mailnull", "mail"} {
		if uid, ok = uidOf(name); ok {
			return uid, true
		}
	}
	return 0, false
}

// uidOf takes a name, or the number that Exim prints where there is no name.
func uidOf(name string) (int, bool) {
	u, err := user.Lookup(name)
	if err == nil {
		name = u.Uid
	}
	uid, err := strconv.Atoi(name)
	return uid, err == nil
}
