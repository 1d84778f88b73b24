package journal

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// A frame holds a change or a note in a segment, or a section of a snapshot:
//
//	4 bytes  magic
//	4 bytes  CRC-32C of all that follows
//	4 bytes  length of the payload
//	8 bytes  number of the change; 0 if it is none
//	         payload
//
// Integers are little-endian. The magic serves to find the next intact frame behind a
// damaged one.
var magic = [4]byte{'s', 'l', 'u', '1'}

const (
	headerSize = 20
	maxPayload = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// fillHeader fills in the header of a frame, the first headerSize bytes of b.
func fillHeader(b []byte, seq uint64) {
	copy(b, magic[:])
	binary.LittleEndian.PutUint32(b[8:], uint32(len(b)-headerSize))
	binary.LittleEndian.PutUint64(b[12:], seq)
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
}

// errFrame means that bytes are no frame.
var errFrame = errors.New("no intact frame")

// frames reads the frames of one file.
type frames struct {
	file io.ReaderAt
	size int64
	at   int64 // where the next frame begins
	buf  *bufio.Reader
	b    []byte // the payload, reused
}

func newFrames(file io.ReaderAt, size int64) *frames {
	f := &frames{file: file, size: size}
	f.seek(0)
	return f
}

func (f *frames) seek(at int64) {
	f.at = at
	r := io.NewSectionReader(f.file, at, f.size-at)
	if f.buf == nil {
		f.buf = bufio.NewReaderSize(r, 1<<16)
	}
	f.buf.Reset(r)
}

// next returns the next frame, valid until the next call. The error is io.EOF behind
// the last frame, or errFrame: then at is still where the faulty frame begins.
func (f *frames) next() (seq uint64, payload []byte, err error) {
	if f.at == f.size {
		return 0, nil, io.EOF
	}
	var header [headerSize]byte
	if _, err := io.ReadFull(f.buf, header[:]); err != nil {
		return 0, nil, f.frameError("it ends within the header", err)
	}
	n := int64(binary.LittleEndian.Uint32(header[8:]))
	if !bytes.Equal(header[:4], magic[:]) || n > maxPayload || n > f.size-f.at-headerSize {
		return 0, nil, f.frameError("the header is none", nil)
	}
	if int64(cap(f.b)) < n {
		f.b = make([]byte, n+n/4)
	}
	f.b = f.b[:n]
	if _, err := io.ReadFull(f.buf, f.b); err != nil {
		return 0, nil, f.frameError("it ends within the payload", err)
	}
	sum := crc32.Update(crc32.Checksum(header[8:], castagnoli), castagnoli, f.b)
	if sum != binary.LittleEndian.Uint32(header[4:]) {
		return 0, nil, f.frameError("the checksum is wrong", nil)
	}
	f.at += headerSize + n
	return binary.LittleEndian.Uint64(header[12:]), f.b, nil
}

// frameError is errFrame, or err if the file cannot be read.
func (f *frames) frameError(what string, err error) error {
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return fmt.Errorf("%w: %s", errFrame, what)
}

// onlyZeros reports whether there are only zeros from at on.
func (f *frames) onlyZeros() (bool, error) {
	chunk, zeros := make([]byte, 1<<16), make([]byte, 1<<16)
	for at := f.at; at < f.size; {
		n, err := f.file.ReadAt(chunk[:min(int64(len(chunk)), f.size-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		if !bytes.Equal(chunk[:n], zeros[:n]) {
			return false, nil
		}
		at += int64(n)
	}
	return true, nil
}

// onlyZeros reports whether a file is empty or has only zeros.
func onlyZeros(path string) (bool, error) {
	file, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return false, err
	}
	return newFrames(file, info.Size()).onlyZeros()
}

// resync goes to the next intact frame behind a faulty one, and reports whether there
// is one.
func (f *frames) resync() (bool, error) {
	window := make([]byte, 1<<16)
	for at := f.at + 1; at < f.size; {
		n, err := f.file.ReadAt(window, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		i := bytes.Index(window[:n], magic[:])
		if i < 0 {
			if at += int64(n) - int64(len(magic)-1); n < len(window) {
				return false, nil
			}
			continue
		}
		at += int64(i)
		f.seek(at)
		switch _, _, err := f.next(); {
		case err == nil:
			f.seek(at)
			return true, nil
		case !errors.Is(err, errFrame):
			return false, err
		}
		at++
	}
	return false, nil
}
