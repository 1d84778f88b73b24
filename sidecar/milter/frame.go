package milter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/emersion/go-milter"
)

// errFrame says that a connection is closed because the client did not send a frame of the
// protocol.
var errFrame = errors.New("malformed frame")

const (
	// maxFrame is the largest frame in bytes. The largest frames are parts of bodies, of
	// 64 KiB, for which we do not ask.
	maxFrame = 128 << 10
	// maxMacros is how many frames with macros may come before a command. In practice there
	// is one for each command.
	maxMacros = 16

	// codeUnknown is an SMTP command that the MTA does not know (SMFIC_UNKNOWN).
	codeUnknown = milter.Code('U')
)

// A sequence checks that the frames of a connection come in an order that the protocol
// allows.
type sequence struct {
	negotiated bool
	macros     int // frames with macros since the last command
}

// check returns what is wrong with a frame, by libmilter's mfdef.h.
func (o *sequence) check(command byte, data []byte) error {
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

// isConnect reports whether the data of a connect frame is a host, a NUL, a family, and
// for all but an unknown family a port and an address with a NUL.
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

// fixAddress makes the data of a connect frame what the library understands. It removes
// "IPv6:", with which Sendmail begins an address, and the port of a unix socket.
func fixAddress(data []byte) []byte {
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

// oldest and newest are the versions of the protocol that are spoken.
const (
	oldest = 2
	newest = 6
)

// An offer is the version and the options that the MTA offers.
type offer struct{ version, actions, protocol uint32 }

func readOffer(data []byte) offer {
	return offer{binary.BigEndian.Uint32(data), binary.BigEndian.Uint32(data[4:]), binary.BigEndian.Uint32(data[8:])}
}

// answer changes the library's answer to an offer: to the version of the MTA, and without
// options that the MTA does not know.
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
	if o.actions&uint32(milter.OptSetSymList) == 0 { // then no list of macros may follow either
		frame = frame[:head+12]
		binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	}
	return frame
}
