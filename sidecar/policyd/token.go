package policyd

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"

	"sluice/sidecar/listen"
)

// errToken says why a question over TCP gets no answer.
var errToken = errors.New("token missing or wrong: any local user reaches a loopback port; Exim's configuration and listen.token_file must hold the same one")

// ReadTokens reads the tokens of listen.token_file; see listen.Tokens.
func ReadTokens(path string) ([]string, error) { return listen.Tokens("listen.token_file", path) }

// AdmitLoopback admits clients of a TCP socket from this host. Their user is not known, so
// each question must have a token.
func AdmitLoopback(nc net.Conn) error {
	a, ok := nc.RemoteAddr().(*net.TCPAddr)
	if !ok || !a.IP.IsLoopback() {
		return fmt.Errorf("%v is not on the loopback", nc.RemoteAddr())
	}
	return nil
}

// maxUntrusted is the largest question in bytes that is read from a client on TCP before
// its token has come.
const maxUntrusted = 4 << 10

// leadingToken is the token of a question that begins with it, as those of version 2 do;
// nil if it does not, or has not come whole.
func leadingToken(question []byte) []byte {
	rest, ok := bytes.CutPrefix(question, []byte("request=sluice\nversion=2\ntoken="))
	token, _, whole := bytes.Cut(rest, []byte("\n"))
	if !ok || !whole {
		return nil
	}
	return token
}

// validToken reports whether a token is one of ours, in a time that reveals nothing about
// them.
func (s *Server) validToken(token []byte) bool {
	found := 0
	for _, t := range s.opts.Tokens {
		found |= subtle.ConstantTimeCompare(token, []byte(t))
	}
	return found == 1
}
