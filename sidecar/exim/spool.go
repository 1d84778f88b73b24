package exim

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// A Spool has the queued messages of an Exim, as they were when it was opened.
type Spool struct{ files map[string]string } // by message id

// maxQueued bounds the messages of a Spool.
const maxQueued = 1_000_000

// OpenSpool lists the messages in Exim's spool_directory, split or not. What cannot be read
// is not in it.
func OpenSpool(directory string) *Spool {
	s := &Spool{files: map[string]string{}}
	input := filepath.Join(directory, "input")
	s.list(input)
	for c := range strings.SplitSeq("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "") { // split_spool_directory
		s.list(filepath.Join(input, c))
	}
	return s
}

func (s *Spool) list(directory string) {
	d, err := os.Open(directory)
	if err != nil {
		return
	}
	defer d.Close()
	for len(s.files) < maxQueued {
		names, err := d.Readdirnames(1000)
		for _, name := range names {
			if id, is := strings.CutSuffix(name, "-H"); is {
				s.files[id] = filepath.Join(directory, name)
			}
		}
		if err != nil {
			return
		}
	}
}

// scriptHeaders are the header lines that PHP and panels write about a script that sends.
var scriptHeaders = [...]string{"X-PHP-Originating-Script", "X-PHP-Script", "X-Source-Dir"}

// maxHeaders is how much of a file is read.
const maxHeaders = 1 << 20

// Script returns what a header line of a queued message says of the script that has sent it,
// which may be anything; "" if it says nothing or is not in the queue any more.
func (s *Spool) Script(id string) string {
	name, queued := s.files[id]
	if !queued {
		return ""
	}
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	text, _ := io.ReadAll(io.LimitReader(f, maxHeaders))
	return scriptIn(text)
}

// scriptIn is what a header line says in a -H file (Exim specification, "Format of spool
// files"). A variable of an ACL may have any bytes, so many as stand before it:
//
//	-aclm NAME LENGTH
//	VALUE
func scriptIn(text []byte) string {
	for line, rest, more := bytes.Cut(text, []byte("\n")); ; line, rest, more = bytes.Cut(rest, []byte("\n")) {
		switch fields := bytes.Fields(line); {
		case !more:
			return ""
		case len(line) == 0:
			return scriptInHeaders(rest)
		case len(fields) == 3 && (bytes.HasPrefix(bytes.TrimLeft(line, "-"), []byte("acl"))):
			n, err := strconv.ParseUint(string(fields[2]), 10, 31)
			if err != nil || int(n)+1 > len(rest) {
				return ""
			}
			rest = rest[n+1:]
		}
	}
}

// scriptInHeaders looks through header lines, each behind its length and a flag.
func scriptInHeaders(text []byte) string {
	values := [len(scriptHeaders)]string{}
	for {
		digits, _, found := bytes.Cut(text, []byte(" "))
		if !found || len(digits) < 2 {
			break
		}
		// "042  X-...": the flag is the byte behind the digits, and may be a space itself.
		digits = bytes.TrimRight(digits, "BCFIPRST*")
		n, err := strconv.ParseUint(string(digits), 10, 31)
		if err != nil || len(text) < len(digits)+2 {
			break
		}
		rest := text[len(digits)+2:]
		if int(n) > len(rest) {
			break
		}
		name, value, _ := strings.Cut(string(rest[:n]), ":")
		for i, header := range scriptHeaders {
			if values[i] == "" && strings.EqualFold(strings.TrimSpace(name), header) {
				values[i] = strings.TrimSpace(value)
			}
		}
		text = rest[n:]
	}
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}
