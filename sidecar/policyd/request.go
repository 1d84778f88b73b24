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

// An attribute is one line of a request, decoded. It points into the request.
type attribute struct{ name, value []byte }

// attributes are the lines of a request in their order.
type attributes []attribute

// index returns the place of an attribute, -1 if there is none.
func (as attributes) index(name []byte) int {
	for i := range as {
		if bytes.Equal(as[i].name, name) {
			return i
		}
	}
	return -1
}

// value returns the value of an attribute, nil if there is none.
func (as attributes) value(name string) []byte {
	if i := as.index([]byte(name)); i >= 0 {
		return as[i].value
	}
	return nil
}

// split takes a request apart and appends its attributes to as. From the line
// after encoding=base64 on values are base64, padded or not; they are decoded
// in place. Exim sends all values so, because base64 is its one quoting that no
// value breaks. No name may come twice: which of two senders pays is nothing
// to guess.
func split(raw []byte, as attributes, limit int) (attributes, error) {
	encoded := false
	for len(raw) > 0 {
		line := raw
		if i := bytes.IndexByte(raw, '\n'); i >= 0 {
			line, raw = raw[:i], raw[i+1:]
		} else {
			raw = nil
		}
		if len(as) == limit {
			return nil, fmt.Errorf("%w: more than %d attributes", errLimit, limit)
		}
		i := bytes.IndexByte(line, '=')
		if i <= 0 {
			return nil, fmt.Errorf("%w: line %d, %s, is not name=value", errMalformed, len(as)+1, clip(line))
		}
		name, value := line[:i], line[i+1:]
		if as.index(name) >= 0 {
			return nil, fmt.Errorf("%w: %s comes twice", errMalformed, clip(name))
		}
		if encoded && len(value) > 0 {
			var err error
			if value, err = decode(value); err != nil {
				return nil, fmt.Errorf("%w: value of %s: %w", errMalformed, clip(name), err)
			}
		}
		if string(name) == "encoding" {
			if string(value) != "base64" {
				return nil, fmt.Errorf("%w: encoding=%s", errMalformed, clip(value))
			}
			encoded = true
		}
		as = append(as, attribute{name, value})
	}
	return as, nil
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
// ignored.
//
// Each value is a string of its own, so that whoever keeps a message id does
// not keep a list of recipients with it.
func sluiceRequest(as attributes) (r sidecar.Request, err error) {
	for _, a := range as {
		switch string(a.name) {
		case "stage":
			r.Stage, err = parseStage(a.value)
		case "id":
			r.ID = string(a.value)
		case "sender":
			r.Sender = string(a.value)
		case "recipients":
			r.Recipients = string(a.value)
		case "recipient":
			r.Recipient = string(a.value)
		case "auth":
			r.Auth = string(a.value)
		case "login":
			r.Login = string(a.value)
		case "uid":
			r.UID = string(a.value)
		case "cwd":
			r.CWD = string(a.value)
		case "script":
			r.Script = string(a.value)
		case "client_address":
			r.ClientAddress = string(a.value)
		case "original":
			r.Original = string(a.value)
		case "charged":
			r.Charged, err = parseYes(a.value)
		case "sent":
			r.Sent, err = parseCount(a.value)
		}
		if err != nil {
			return r, fmt.Errorf("%w: %s=%s: %w", errMalformed, a.name, clip(a.value), err)
		}
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
