package policyd

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
)

// errToken says why a question over TCP gets no answer.
var errToken = errors.New("token missing or wrong: any local user reaches a loopback port; Exim's configuration and listen.token_file must hold the same one")

// minToken is the length in bytes from which a token cannot be guessed.
const minToken = 16

// ReadTokens reads the tokens with which clients on TCP prove who they are, one per line;
// a question may have any of them. It fails if every user may read the file: only root and
// Exim may.
func ReadTokens(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read the tokens for TCP (listen.token_file): %w", err)
	}
	if info.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("read the tokens for TCP: every user may read %s; try: chmod o= %s", path, path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the tokens for TCP (listen.token_file): %w", err)
	}
	tokens := strings.Fields(string(text))
	for _, t := range tokens {
		if len(t) < minToken {
			return nil, fmt.Errorf("read the tokens for TCP: one in %s has fewer than %d characters; try: openssl rand -hex 16", path, minToken)
		}
	}
	if len(tokens) == 0 {
		return nil, fmt.Errorf("read the tokens for TCP: %s has none; try: openssl rand -hex 16 >%s", path, path)
	}
	return tokens, nil
}

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
