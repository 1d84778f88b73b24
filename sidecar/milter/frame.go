package milter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/emersion/go-milter"
)

// errFrame is why a connection is closed: what came is no frame of the protocol.
var errFrame = errors.New("malformed frame")

const (
	// maxFrame bounds a frame in bytes. The largest are parts of bodies, of 64 KiB,
	// which are not asked for.
	maxFrame = 128 << 10
	// maxMacros is how many frames with macros may come before a command: there is
	// one for each in practice.
	maxMacros = 16

	// codeUnknown is an SMTP command that the MTA does not know (SMFIC_UNKNOWN).
	codeUnknown = milter.Code('U')
)

// An order is how far a connection has come.
type order struct {
	negotiated bool
	macros     int // frames with them since the last command
}

// check tells what is wrong with a frame, by libmilter's mfdef.h.
func (o *order) check(command byte, data []byte) error {
	if o.negotiated == (milter.Code(command) == milter.CodeOptNeg) {
		return fmt.Errorf("%w: command %q comes at the wrong place", errFrame, command)
	}
	if milter.Code(command) != milter.CodeMacro {
		o.macros = 0
	}
	ok := true
	switch milter.Code(command) {
	case milter.CodeOptNeg:
		o.negotiated = true
		ok = len(data) >= 12 && binary.BigEndian.Uint32(data) >= oldest
	case milter.CodeMacro:
		o.macros++
		ok = o.macros <= maxMacros && len(data) > 0 && (len(data) == 1 || data[len(data)-1] == 0)
	case milter.CodeConn:
		ok = isConnect(data)
	case milter.CodeHelo, milter.CodeMail, milter.CodeRcpt, milter.CodeHeader, codeUnknown:
		ok = len(data) > 0 && data[len(data)-1] == 0
	case milter.CodeData, milter.CodeEOH, milter.CodeBody, milter.CodeEOB, milter.CodeAbort, milter.CodeQuit, milter.CodeQuitNewConn:
	default:
		return fmt.Errorf("%w: there is no command %q", errFrame, command)
	}
	if !ok {
		return fmt.Errorf("%w: command %q with %d bytes of data that are not what it takes", errFrame, command, len(data))
	}
	return nil
}

// isConnect tells whether the data of a connect is a host, a NUL, a family, and
// for all but an unknown one a port and an address with a NUL.
func isConnect(data []byte) bool {
	host := bytes.IndexByte(data, 0)
	if host < 0 || host+1 >= len(data) {
		return false
	}
	rest := data[host+2:]
	switch milter.ProtoFamily(data[host+1]) {
	case milter.FamilyUnknown:
		return true
	case milter.FamilyUnix, milter.FamilyInet, milter.FamilyInet6:
		return len(rest) >= 3 && rest[len(rest)-1] == 0
	}
	return false
}

// plainAddress takes "IPv6:" from the address of a connect, with which Sendmail
// writes one and the library does not understand it. An address of a unix socket
// has a port too, of which the library does not know.
func plainAddress(data []byte) []byte {
	port := bytes.IndexByte(data, 0) + 2
	switch milter.ProtoFamily(data[port-1]) {
	case milter.FamilyInet6:
		address := bytes.TrimPrefix(data[port+2:], []byte("IPv6:"))
		return append(data[:port+2:port+2], address...)
	case milter.FamilyUnix:
		return append(data[:port:port], data[port+2:]...)
	}
	return data
}

// Versions of the protocol.
const (
	oldest = 2
	newest = 6
)

// An offer is what the MTA can do.
type offer struct{ version, actions, protocol uint32 }

func readOffer(data []byte) offer {
	return offer{binary.BigEndian.Uint32(data), binary.BigEndian.Uint32(data[4:]), binary.BigEndian.Uint32(data[8:])}
}

// answer makes the library's answer to an offer one in the version of the MTA,
// that asks for nothing that the MTA does not know.
func (o offer) answer(frame []byte) []byte {
	const head = 5
	if len(frame) < head+12 || milter.Code(frame[4]) != milter.CodeOptNeg {
		return frame
	}
	frame = bytes.Clone(frame)
	actions, protocol := binary.BigEndian.Uint32(frame[head+4:]), binary.BigEndian.Uint32(frame[head+8:])
	binary.BigEndian.PutUint32(frame[head:], min(o.version, newest))
	binary.BigEndian.PutUint32(frame[head+4:], actions&o.actions)
	binary.BigEndian.PutUint32(frame[head+8:], protocol&o.protocol)
	if o.actions&uint32(milter.OptSetSymList) == 0 { // nor is there a list of macros then
		frame = frame[:head+12]
		binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	}
	return frame
}
