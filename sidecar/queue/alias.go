package queue

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// maxAliases is how much of a file of aliases is read.
const maxAliases = 4 << 20

// aliasOf finds the line of an alias file that has an address, as "FILE:LINE"; "" if none has.
// Of a catch-all that is its line.
func (l *Loops) aliasOf(address string) string {
	local, domain, _ := strings.Cut(address, "@")
	for _, pattern := range l.aliases {
		if strings.ContainsAny(domain, "/") || strings.HasPrefix(domain, ".") {
			return "" // it would be another file
		}
		path := strings.ReplaceAll(pattern, "DOMAIN", domain)
		if n := aliasLine(path, local, address); n > 0 {
			return fmt.Sprintf("%s:%d", path, n)
		}
	}
	return ""
}

// aliasLine is the number of the line "NAME: TARGETS" of an address in a file; 0 if it has none.
func aliasLine(path, local, address string) int {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return 0
	}
	text, _ := io.ReadAll(io.LimitReader(f, maxAliases))
	catchAll, n := 0, 0
	for line := range bytes.Lines(text) {
		n++
		name, _, is := strings.Cut(string(line), ":")
		switch name = strings.ToLower(strings.TrimSpace(name)); {
		case !is:
		case name == local, name == address:
			return n
		case name == "*":
			catchAll = n
		}
	}
	return catchAll
}
