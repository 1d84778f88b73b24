package exim

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/encoding/htmlindex"

	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/logline"
)

// A SpoolHeader is what Exim notes of a queued message in its -H file (Exim specification,
// "Format of spool files"). Its Request is as the router would ask about it, without the
// recipient and the id.
type SpoolHeader struct {
	sidecar.Request
	Frozen time.Time // when it was frozen; zero: it is not
	Left   []string  // recipients to whom it has not been delivered yet
	Done   []string  // recipients to whom it has, or who were marked so by hand
}

var (
	errCut = errors.New("it ends in the middle")
	errOdd = errors.New("it is not as Exim writes it")
)

// spoolText is what is left to read of a -H file.
type spoolText []byte

// line cuts the next line.
func (t *spoolText) line() (string, error) {
	line, rest, found := bytes.Cut(*t, []byte("\n"))
	if !found {
		return "", errCut
	}
	*t = rest
	return string(line), nil
}

// parseSpoolHeader reads a -H file:
//
//	ID-H
//	LOGIN UID GID
//	<SENDER>
//	RECEIVED WARNINGS
//	-NAME VALUE                       any number of these
//	the tree of those who have it     XX, or lines of YY, YN, NY or NN and an address
//	how many recipients               and a line for each
//	                                  and the header lines, see inHeaders
func parseSpoolHeader(text []byte) (h SpoolHeader, err error) {
	t := spoolText(text)
	var head [4]string
	for i := range head {
		if head[i], err = t.line(); err != nil {
			return h, err
		}
	}
	submitter := strings.Fields(head[1])
	if len(submitter) < 3 || !strings.HasPrefix(head[2], "<") || !strings.HasSuffix(head[2], ">") {
		return h, errOdd
	}
	h.Login, h.UID = submitter[0], submitter[len(submitter)-2]
	h.Sender = head[2][1 : len(head[2])-1]
	tree, err := h.options(&t)
	if err != nil {
		return h, err
	}
	if err = h.recipients(&t, tree); err == nil {
		h.Script, h.Subject = inHeaders(t)
	}
	return h, err
}

// options reads the lines that begin with -, and returns the line behind them.
func (h *SpoolHeader) options(t *spoolText) (behind string, err error) {
	authenticated := false
	for {
		line, err := t.line()
		if err != nil || !strings.HasPrefix(line, "-") {
			if !authenticated { // of a local message it is the login
				h.Auth = ""
			}
			if h.ClientAddress != "" { // UID is Exim's
				h.Login, h.UID = "", ""
			}
			return line, err
		}
		name, value, _ := strings.Cut(strings.TrimLeft(line, "-"), " ") // -- from 4.94 on: tainted
		if strings.HasPrefix(name, "(") {                               // from 4.97 on: from where a tainted value is
			_, name, _ = strings.Cut(name, ")")
		}
		switch name {
		case "acl", "aclc", "aclm":
			if err := h.variable(t, name, value); err != nil {
				return "", err
			}
		case "host_auth":
			authenticated = true
		case "auth_id":
			h.Auth = logline.UnescapeLogin(value)
		case "ident":
			h.Login = value
		case "host_address":
			h.ClientAddress = addressIn(value)
		case "frozen":
			seconds, err := strconv.ParseInt(value, 10, 64)
			if err != nil || seconds <= 0 {
				return "", errOdd
			}
			h.Frozen = time.Unix(seconds, 0)
		}
	}
}

// addressIn is the address in [192.0.2.1]:PORT, or in 192.0.2.1.PORT.
func addressIn(value string) string {
	if inside, found := strings.CutPrefix(value, "["); found {
		address, _, _ := strings.Cut(inside, "]")
		return address
	}
	if i := strings.LastIndexByte(value, '.'); i > 0 && (strings.Count(value, ".") == 4 || strings.Contains(value, ":")) {
		return value[:i]
	}
	return value
}

// variable reads a variable of an ACL, which may have any bytes, so many as stand before it:
//
//	-aclm NAME LENGTH
//	VALUE
func (h *SpoolHeader) variable(t *spoolText, kind, value string) error {
	name, length, _ := strings.Cut(value, " ")
	n, err := strconv.ParseUint(length, 10, 31)
	if err != nil {
		return errOdd
	}
	if int(n)+1 > len(*t) {
		return errCut
	}
	text := string((*t)[:n])
	*t = (*t)[n+1:]
	switch kind + name {
	case "aclm_sluice_cwd":
		h.CWD = text
	case "aclc_sluice_socket":
		h.Socket = text
	case "aclm_sluice_socket":
		if h.Socket == "" {
			h.Socket = text
		}
	}
	return nil
}

// recipients reads the tree, of which line is the first, and the recipients.
func (h *SpoolHeader) recipients(t *spoolText, line string) (err error) {
	done := map[string]bool{}
	for nodes := 1; line != "XX"; {
		if len(line) < 4 || strings.Trim(line[:2], "YN") != "" || line[2] != ' ' {
			return errOdd
		}
		done[line[3:]] = true
		if nodes += strings.Count(line[:2], "Y") - 1; nodes == 0 {
			break
		}
		if line, err = t.line(); err != nil {
			return err
		}
	}
	if line, err = t.line(); err != nil {
		return err
	}
	n, err := strconv.ParseUint(line, 10, 31)
	if err != nil {
		return errOdd
	}
	for range n {
		if line, err = t.line(); err != nil {
			return err
		}
		if i := envelope.IndexUnquoted(line, ' '); i >= 0 { // behind it: what is known of it
			line = line[:i]
		}
		if done[line] {
			h.Done = append(h.Done, line)
		} else {
			h.Left = append(h.Left, line)
		}
	}
	if line, err = t.line(); err == nil && line != "" {
		return errOdd
	}
	return err
}

// scriptHeaders are the header lines that PHP and panels write about a script that sends.
var scriptHeaders = [...]string{"X-PHP-Originating-Script", "X-PHP-Script", "X-Source-Dir"}

// inHeaders looks through header lines, each behind its length and a flag, for what they say of a
// script, and for the subject.
func inHeaders(text []byte) (script, subject string) {
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
		name = strings.TrimSpace(name)
		for i, header := range scriptHeaders {
			if values[i] == "" && strings.EqualFold(name, header) {
				values[i] = strings.TrimSpace(value)
			}
		}
		if subject == "" && strings.EqualFold(name, "Subject") {
			subject = decoded(value)
		}
		text = rest[n:]
	}
	for _, script = range values {
		if script != "" {
			break
		}
	}
	return script, subject
}

// inCharset reads text in any character set that mail has, as Exim does for what it tells of a subject.
func inCharset(name string, text io.Reader) (io.Reader, error) {
	charset, err := htmlindex.Get(name)
	if err != nil {
		return nil, err
	}
	return charset.NewDecoder().Reader(text), nil
}

// maxSubject is how many bytes of a subject are kept, as the front keeps of one that it is told.
const maxSubject = 200

// decoded is a subject as it is read (RFC 2047); as it stands there where it is not written like that.
func decoded(value string) string {
	value = strings.Join(strings.Fields(value), " ")
	if text, err := (&mime.WordDecoder{CharsetReader: inCharset}).DecodeHeader(value); err == nil {
		value = text
	}
	return value[:min(len(value), maxSubject)]
}
