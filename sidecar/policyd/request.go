package policyd

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"

	"sluice/sidecar"
)

// Why a request gets no answer. What exactly was wrong follows in the text.
var (
	errMalformed = errors.New("malformed request")
	errLimit     = errors.New("request over a limit")
	errPanicked  = errors.New("the policy panicked")
)

// attributes goes through the lines of a request. From the line after
// encoding=base64 on values are base64, padded or not; they are decoded in
// place. Exim sends all values so, because base64 is its one quoting that no
// value breaks.
type attributes struct {
	rest    []byte
	encoded bool
	n       int // lines so far
	limit   int
	token   []byte // of sluiceRequest: what proves who asks over TCP
}

// next returns the next attribute; the name is nil after the last. Both point
// into the request.
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
		as.encoded = true
	}
	return name, value, nil
}

// kind returns the kind of a request, which is the value of its first line.
// Postfix, too, always begins with it (smtpd_check.c).
func (as *attributes) kind() ([]byte, error) {
	name, value, err := as.next()
	if err == nil && string(name) != "request" {
		err = fmt.Errorf("%w: it begins with %s and not with request=", errMalformed, clip(name))
	}
	return value, err
}

// decode decodes base64, of at least a byte, in place. Decode writes three bytes for four that it
// has read, so that it never overtakes itself (TestDecodeInPlace).
func decode(v []byte) ([]byte, error) {
	enc := base64.RawStdEncoding
	if v[len(v)-1] == '=' {
		enc = base64.StdEncoding
	}
	// Decode passes over CR, which would make CR LF lines look right.
	if i := bytes.IndexByte(v, '\r'); i >= 0 {
		return nil, base64.CorruptInputError(i)
	}
	n, err := enc.Decode(v, v)
	return v[:n], err
}

// sluiceRequest understands Exim's questions (request=sluice). Attributes it
// does not know are left to later versions of our Exim configuration and
// ignored. One that it knows may not come twice: which of two senders pays is
// nothing to guess.
//
// Each value is a string of its own, so that whoever keeps a message id does
// not keep a list of recipients with it.
func sluiceRequest(as *attributes) (r sidecar.Request, _ error) {
	var seen uint32
	for {
		name, v, err := as.next()
		if err != nil {
			return r, err
		}
		if name == nil {
			break
		}
		var bit uint32 // of this attribute; none for unknown ones
		switch string(name) {
		case "stage":
			bit = 1 << 0
			r.Stage, err = parseStage(v)
		case "id":
			bit, r.ID = 1<<1, string(v)
		case "sender":
			bit, r.Sender = 1<<2, string(v)
		case "recipients":
			bit, r.Recipients = 1<<3, string(v)
		case "recipient":
			bit, r.Recipient = 1<<4, string(v)
		case "auth":
			bit, r.Auth = 1<<5, string(v)
		case "login":
			bit, r.Login = 1<<6, string(v)
		case "uid":
			bit, r.UID = 1<<7, string(v)
		case "cwd":
			bit, r.CWD = 1<<8, string(v)
		case "script":
			bit, r.Script = 1<<9, string(v)
		case "client_address":
			bit, r.ClientAddress = 1<<10, string(v)
		case "original":
			bit, r.Original = 1<<11, string(v)
		case "charged":
			bit = 1 << 12
			r.Charged, err = parseYes(v)
		case "sent":
			bit = 1 << 13
			r.Sent, err = parseCount(v)
		case "token":
			bit, as.token = 1<<14, v
		}
		if err != nil {
			return r, fmt.Errorf("%w: %s=%s: %w", errMalformed, name, clip(v), err)
		}
		if seen&bit != 0 {
			return r, fmt.Errorf("%w: %s comes twice", errMalformed, name)
		}
		seen |= bit
	}
	if r.Stage == "" {
		return r, fmt.Errorf("%w: it has no stage", errMalformed)
	}
	return r, nil
}

// parseStage understands a stage, without allocating.
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

// parseYes understands the ways in which Exim's configuration says yes. What
// is none of them is a mistake there, to be heard of.
func parseYes(v []byte) (bool, error) {
	switch string(v) {
	case "yes", "1", "true":
		return true, nil
	case "", "no", "0", "false":
		return false, nil
	}
	return false, errors.New("neither yes nor no")
}

// parseCount understands a number of recipients; empty is 0.
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

// clip makes foreign bytes fit to be logged.
func clip(v []byte) string {
	const most = 60
	if len(v) > most {
		return strconv.QuoteToASCII(string(v[:most])) + "..."
	}
	return strconv.QuoteToASCII(string(v))
}
