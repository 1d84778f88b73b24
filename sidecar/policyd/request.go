package policyd

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"sluice/sidecar"
	"sluice/sidecar/logline"
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

	// These are set by sluiceRequest.
	version    byte   // '1' or '2'
	number     []byte // of a question of version 2, which its reply repeats
	token      []byte // proves over TCP who asks
	originator []byte // uid of whoever started the Exim that asks, where that claims to have a client
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
	attrOriginal
	attrClientAddress
	attrClientPort
	attrServerAddress
	attrServerPort
	attrProxyAddress
	attrProxyPort
	attrPayer
	attrSubject
	texts
	attrStage
	attrCharged
	attrSent
	attrVersion
	attrNumber
	attrToken
	attrOriginator
	unknown
)

// maxSubject is how many bytes of a subject are kept, as Exim sends them unless a site has it send more.
const maxSubject = 200

// sluiceRequest parses Exim's questions (request=sluice). It ignores unknown attributes:
// later versions of our Exim configuration may send some. A known one must not come twice:
// we cannot guess which of two senders pays.
//
// The texts become parts of one string, which is quicker to make than one for each; whoever keeps
// one of them must clone it.
func sluiceRequest(as *attributes, r *sidecar.Request) error {
	var seen uint32
	var values [texts][]byte
	size := 0
	as.version = '1'
	for {
		name, v, err := as.next()
		if err != nil {
			return err
		}
		if name == nil {
			break
		}
		attr := attributeOf(name)
		if attr == unknown {
			continue
		}
		if err := as.parse(attr, v, r); err != nil {
			return fmt.Errorf("%w: %s=%s: %w", errMalformed, name, clip(v), err)
		}
		if seen&(1<<attr) != 0 {
			return fmt.Errorf("%w: %s comes twice", errMalformed, name)
		}
		seen |= 1 << attr
		if attr == attrSubject {
			v = v[:min(len(v), maxSubject)]
		}
		if attr < texts {
			values[attr] = v
			size += len(v)
		}
	}
	switch {
	case r.Stage == "":
		return fmt.Errorf("%w: it has no stage", errMalformed)
	case as.version == '2' && len(as.number) == 0:
		return fmt.Errorf("%w: it has no number", errMalformed)
	case as.version == '1':
		as.number = nil
	}
	setTexts(r, &values, size)
	return nil
}

// parse parses an attribute that is more than a text.
func (as *attributes) parse(attr int, v []byte, r *sidecar.Request) (err error) {
	switch attr {
	case attrStage:
		r.Stage, err = parseStage(v)
	case attrCharged:
		r.Charged, err = parseYes(v)
	case attrSent:
		r.Sent, err = parseCount(v)
	case attrPayer:
		err = checkPayer(v)
	case attrVersion:
		if len(v) != 1 || v[0] != '1' && v[0] != '2' {
			return errors.New("this sluice knows the versions 1 and 2: install its Exim configuration, or the newer sluice first")
		}
		as.version = v[0]
	case attrNumber:
		as.number, err = v, checkNumber(v, 20)
	case attrToken:
		as.token = v
	case attrOriginator:
		as.originator = v
	}
	return err
}

// attributeOf is the attribute of a name.
func attributeOf(name []byte) int {
	switch string(name) {
	case "id":
		return attrID
	case "sender":
		return attrSender
	case "recipient":
		return attrRecipient
	case "recipients":
		return attrRecipients
	case "auth":
		return attrAuth
	case "login":
		return attrLogin
	case "uid":
		return attrUID
	case "cwd":
		return attrCWD
	case "script":
		return attrScript
	case "original":
		return attrOriginal
	case "client_address":
		return attrClientAddress
	case "client_port":
		return attrClientPort
	case "server_address":
		return attrServerAddress
	case "server_port":
		return attrServerPort
	case "proxy_address":
		return attrProxyAddress
	case "proxy_port":
		return attrProxyPort
	case "payer":
		return attrPayer
	case "subject":
		return attrSubject
	case "stage":
		return attrStage
	case "charged":
		return attrCharged
	case "sent":
		return attrSent
	case "version":
		return attrVersion
	case "number":
		return attrNumber
	case "token":
		return attrToken
	case "originator":
		return attrOriginator
	}
	return unknown
}

// setTexts converts values, of size bytes together, to strings.
func setTexts(r *sidecar.Request, values *[texts][]byte, size int) {
	var all strings.Builder
	all.Grow(size)
	for attr, to := range [texts]*string{
		attrID: &r.ID, attrSender: &r.Sender, attrRecipient: &r.Recipient, attrRecipients: &r.Recipients, attrAuth: &r.Auth, attrLogin: &r.Login,
		attrUID: &r.UID, attrCWD: &r.CWD, attrScript: &r.Script, attrOriginal: &r.Original, attrClientAddress: &r.ClientAddress, attrClientPort: &r.ClientPort,
		attrServerAddress: &r.ServerAddress, attrServerPort: &r.ServerPort, attrProxyAddress: &r.ProxyAddress, attrProxyPort: &r.ProxyPort, attrPayer: &r.Socket,
		attrSubject: &r.Subject,
	} {
		if len(values[attr]) > 0 {
			from := all.Len()
			all.Write(values[attr])
			*to = all.String()[from:]
		}
	}
	r.Auth = logline.UnescapeLogin(r.Auth)
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

// checkNumber checks that a value is a number of at most so many digits.
func checkNumber(v []byte, digits int) error {
	for _, b := range v {
		if b < '0' || b > '9' {
			return errors.New("not a number")
		}
	}
	if len(v) == 0 || len(v) > digits {
		return errors.New("not a number")
	}
	return nil
}

// checkPayer checks what Exim repeats of a reply's payer=.
func checkPayer(v []byte) error {
	if uid, ok := bytes.CutPrefix(v, []byte(sidecar.SocketUID)); ok {
		return checkNumber(uid, 10)
	}
	if len(v) > 0 && string(v) != sidecar.SocketLoopback {
		return errors.New("neither uid:N nor " + sidecar.SocketLoopback)
	}
	return nil
}

// clip quotes and shortens bytes of a client, so that they can be logged.
func clip(v []byte) string {
	const most = 60
	if len(v) > most {
		return strconv.QuoteToASCII(string(v[:most])) + "..."
	}
	return strconv.QuoteToASCII(string(v))
}
