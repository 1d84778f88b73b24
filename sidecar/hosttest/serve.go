package hosttest

import (
	"context"
	"net"
	"testing"
)

// Serve has a server serve on a socket until the test ends.
func Serve(t *testing.T, s interface {
	Serve(context.Context, net.Listener) error
}, l net.Listener,
) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
