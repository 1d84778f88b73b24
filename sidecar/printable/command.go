package printable

import (
	"regexp"
	"strings"

	"golang.org/x/text/unicode/bidi"
)

// Command is a command to copy into a shell, with names that others may have chosen: each is
// one word, quoted where it has to be. It is empty if one of the names must stand in no command,
// for it would not be read, or not do, what it seems to.
func Command(command string, names ...string) string {
	for _, name := range names {
		if !harmless(name) {
			return ""
		}
		command += " " + quoted(name)
	}
	return command
}

// harmless reports whether a name may stand in a command that is printed to be copied. It has
// nothing that is not shown as it is, nothing that is written from right to left, which changes
// the order in which the words around it are shown, and is not taken for an option.
func harmless(name string) bool {
	if name == "" || name[0] == '-' || Of(name) != name {
		return false
	}
	for _, r := range name {
		if p, _ := bidi.LookupRune(r); p.Class() == bidi.R || p.Class() == bidi.AL || p.Class() == bidi.AN {
			return false
		}
	}
	return true
}

// plain are the words that mean themselves to any shell.
var plain = regexp.MustCompile(`^[A-Za-z0-9/][A-Za-z0-9@%+=:,./_-]*$`)

// quoted is a name as a shell takes it for one word.
func quoted(name string) string {
	if plain.MatchString(name) {
		return name
	}
	return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}
