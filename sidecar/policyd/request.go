package policyd

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"sluice/sidecar"
	"sluice/sidecar/envelope"
)

// These say why a request gets no answer; the wrapping error says what exactly was wrong.
var (
	errMalformed = errors.New("malformed request")
	errLimit     = errors.New("request over a limit")
	errPanicked  = errors.New("the policy panicked")
)

// attributes iterates over the lines of a request. After encoding=base64 all values are
// base64, padded or not; they are decoded in place. Exim sends all values so, because
// base64 is its only quoting that no value breaks.
type attributes struct {
	rest    []byte
	encoded bool
	n       int // lines so far
	limit   int
	token   []byte // set by sluiceRequest; proves over TCP who asks
}

// next returns the next attribute; after the last the name is nil. Both point into the
// request.
func (as *attributes) next() (name, value []byte, err error) {
	if len(as.rest) == 0 {
		return nil, nil, nil
	}
	line := as.rest
	if i := bytes.IndexByte(line, '\n'); i >= 0 {
		line, as.rest = line[:i], line[i+1:]
	} else {
		as.rest = nil
	}
	if as.n++; as.n > as.limit {
		return nil, nil, fmt.Errorf("%w: more than %d attributes", errLimit, as.limit)
	}
	i := bytes.IndexByte(line, '=')
	if i <= 0 {
		return nil, nil, fmt.Errorf("%w: line %d, %s, is not name=value", errMalformed, as.n, clip(line))
	}
	name, value = line[:i], line[i+1:]
	if as.encoded && len(value) > 0 {
		if value, err = decode(value); err != nil {
			return nil, nil, fmt.Errorf("%w: value of %s: %w", errMalformed, clip(name), err)
		}
	}
	if string(name) == "encoding" {
		if string(value) != "base64" || as.encoded {
			return nil, nil, fmt.Errorf("%w: encoding=%s", errMalformed, clip(value))
		}
		// Decoding skips CR, so that lines with CR LF would seem right.
		if bytes.IndexByte(as.rest, '\r') >= 0 {
			return nil, nil, fmt.Errorf("%w: encoding=base64, and a CR follows", errMalformed)
		}
		as.encoded = true
	}
	return name, value, nil
}

// kind returns the kind of a request, which is the value of its first line. Postfix's also
// begin with it (smtpd_check.c).
func (as *attributes) kind() ([]byte, error) {
	name, value, err := as.next()
	if err == nil && string(name) != "request" {
		err = fmt.Errorf("%w: it begins with %s and not with request=", errMalformed, clip(name))
	}
	return value, err
}

// decode decodes base64 in place. It needs at least one byte, and no CR. Decode writes
// three bytes for four that it has read, so it never overwrites what is to be read
// (TestDecodeInPlace).
func decode(v []byte) ([]byte, error) {
	enc := base64.RawStdEncoding
	if v[len(v)-1] == '=' {
		enc = base64.StdEncoding
	}
	n, err := enc.Decode(v, v)
	return v[:n], err
}

// These are the attributes of Exim's questions, first those whose values are plain text.
const (
	attrID = iota
	attrSender
	attrRecipient
	attrRecipients
	attrAuth
	attrLogin
	attrUID
	attrCWD
	attrScript
	attrClientAddress
	attrOriginal
	texts
	attrStage
	attrCharged
	attrSent
	attrToken
)

// sluiceRequest parses Exim's questions (request=sluice). It ignores unknown attributes:
// later versions of our Exim configuration may send some. A known one must not come twice:
// we cannot guess which of two senders pays.
//
// The texts become parts of one string, which is quicker to make than six; whoever keeps
// one of them must clone it.
func sluiceRequest(as *attributes, r *sidecar.Request) error {
	var seen uint32
	var values [texts][]byte
	size := 0
	for {
		name, v, err := as.next()
		if err != nil {
			return err
		}
		if name == nil {
			break
		}
		var attr int
		switch string(name) {
		case "stage":
			attr = attrStage
			r.Stage, err = parseStage(v)
		case "id":
			attr = attrID
		case "sender":
			attr = attrSender
		case "recipients":
			attr = attrRecipients
		case "recipient":
			attr = attrRecipient
		case "auth":
			attr = attrAuth
		case "login":
			attr = attrLogin
		case "uid":
			attr = attrUID
		case "cwd":
			attr = attrCWD
		case "script":
			attr = attrScript
		case "client_address":
			attr = attrClientAddress
		case "original":
			attr = attrOriginal
		case "charged":
			attr = attrCharged
			r.Charged, err = parseYes(v)
		case "sent":
			attr = attrSent
			r.Sent, err = parseCount(v)
		case "token":
			attr, as.token = attrToken, v
		default:
			continue
		}
		if err != nil {
			return fmt.Errorf("%w: %s=%s: %w", errMalformed, name, clip(v), err)
		}
		if seen&(1<<attr) != 0 {
			return fmt.Errorf("%w: %s comes twice", errMalformed, name)
		}
		seen |= 1 << attr
		if attr < texts {
			values[attr] = v
			size += len(v)
		}
	}
	if r.Stage == "" {
		return fmt.Errorf("%w: it has no stage", errMalformed)
	}
	setTexts(r, &values, size)
	return nil
}

// setTexts converts values, of size bytes together, to strings.
func setTexts(r *sidecar.Request, values *[texts][]byte, size int) {
	var all strings.Builder
	all.Grow(size)
	for attr, to := range [texts]*string{
		attrID: &r.ID, attrSender: &r.Sender, attrRecipient: &r.Recipient, attrRecipients: &r.Recipients, attrAuth: &r.Auth, attrLogin: &r.Login,
		attrUID: &r.UID, attrCWD: &r.CWD, attrScript: &r.Script, attrClientAddress: &r.ClientAddress, attrOriginal: &r.Original,
	} {
		if len(values[attr]) > 0 {
			from := all.Len()
			all.Write(values[attr])
			*to = all.String()[from:]
		}
	}
	r.Auth = envelope.UnescapeLogin(r.Auth)
}

// parseStage parses a stage, without allocating.
func parseStage(v []byte) (sidecar.Stage, error) {
	for _, s := range [...]sidecar.Stage{
		sidecar.StageRcpt, sidecar.StageData, sidecar.StageLocal, sidecar.StageRoute,
	} {
		if string(v) == string(s) {
			return s, nil
		}
	}
	return "", errors.New("not a stage")
}

// parseYes parses the ways in which Exim's configuration says yes and no. Anything else is
// a mistake there, and must be noticed.
func parseYes(v []byte) (bool, error) {
	switch string(v) {
	case "yes", "1", "true":
		return true, nil
	case "", "no", "0", "false":
		return false, nil
	}
	return false, errors.New("neither yes nor no")
}

// parseCount parses a number of recipients; empty is 0.
func parseCount(v []byte) (int, error) {
	if len(v) == 0 {
		return 0, nil
	}
	n, err := strconv.ParseUint(string(v), 10, 31)
	if err != nil {
		return 0, errors.New("not a number of recipients")
	}
	return int(n), nil
}

// clip quotes and shortens bytes of a client, so that they can be logged.
func clip(v []byte) string {
	const most = 60
	if len(v) > most {
		return strconv.QuoteToASCII(string(v[:most])) + "..."
	}
	return strconv.QuoteToASCII(string(v))
}
