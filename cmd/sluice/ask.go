package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
)

// errNotConfirmed is what a command returns that was told not to do it.
var errNotConfirmed = no{errors.New("nothing was done")}

// confirm asks a question and reports whether the answer was yes. No answer is no, and where
// nobody can answer it is an error.
func (t *terminal) confirm(question string) error {
	printf(t.stderr, "%s [y/N] ", question)
	answer, err := bufio.NewReader(t.stdin).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	case "":
		if err != nil {
			return errors.New("nobody has answered, so nothing was done; with --yes it is not asked")
		}
	}
	return errNotConfirmed
}

// needRoot is an error where this program is not root's.
func needRoot(what string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%s: only root can do that. Try: sudo sluice %s", what, what)
	}
	return nil
}
