package peer

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// openNetlink opens a netlink socket (netlink(7)), not blocking, that hears of the given groups.
func openNetlink(protocol int, groups uint32) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err == nil {
		if err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return -1, fmt.Errorf("open a netlink socket: %w", err)
	}
	return fd, nil
}

// A netlink is a netlink socket that is asked one question after the other. One goroutine
// may use it at a time. After an error it must be closed: an answer may be under way that
// nobody waits for.
type netlink struct {
	fd       int
	sequence uint32 // of the last question
	in, out  [1024]byte
}

// netlinkTimeout is how long the kernel may take, in milliseconds. Mostly its answer is there
// as soon as the question is written; so it is looked for first, and a process that is not
// let run for a while misses nothing.
const netlinkTimeout = 100

// ask asks for what one message answers, and returns its payload, which is valid until the
// next question. The error is an errno where the kernel has answered with one.
func (n *netlink) ask(kind uint16, question []byte) ([]byte, error) {
	n.sequence++
	size := unix.NLMSG_HDRLEN + len(question)
	order := binary.NativeEndian
	order.PutUint32(n.out[0:], uint32(size))
	order.PutUint16(n.out[4:], kind)
	order.PutUint16(n.out[6:], unix.NLM_F_REQUEST)
	order.PutUint32(n.out[8:], n.sequence)
	order.PutUint32(n.out[12:], 0) // the port, which the kernel fills in
	copy(n.out[unix.NLMSG_HDRLEN:], question)
	if _, err := unix.Write(n.fd, n.out[:size]); err != nil {
		return nil, err
	}
	for {
		got, err := n.read()
		if err != nil {
			return nil, err
		}
		answer := n.in[:got]
		if got < unix.NLMSG_HDRLEN || order.Uint32(answer[8:]) != n.sequence {
			continue // not to this question
		}
		length := int(order.Uint32(answer))
		if length < unix.NLMSG_HDRLEN || length > got {
			return nil, errors.New("the kernel's answer is cut off")
		}
		payload := answer[unix.NLMSG_HDRLEN:length]
		if order.Uint16(answer[4:]) != unix.NLMSG_ERROR {
			return payload, nil
		}
		if len(payload) < 4 {
			return nil, errors.New("the kernel's answer is cut off")
		}
		return nil, unix.Errno(-int32(order.Uint32(payload)))
	}
}

// read reads a message, and waits for it if there is none. A signal, as Go's runtime sends
// some to its own threads, ends a poll early.
func (n *netlink) read() (int, error) {
	for {
		got, err := unix.Read(n.fd, n.in[:])
		if !errors.Is(err, unix.EAGAIN) {
			return got, err
		}
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(n.fd), Events: unix.POLLIN}}, netlinkTimeout)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return 0, err
		}
		if err == nil && ready == 0 {
			return 0, errors.New("the kernel does not answer")
		}
	}
}
