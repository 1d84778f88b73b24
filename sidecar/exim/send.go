package exim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// sendPatience is how long Exim may take to accept a message.
const sendPatience = 30 * time.Second

// sendmail is the same program of all mail servers.
const sendmail = "/usr/sbin/sendmail"

// Mailer is the program that sends mail of this host: Exim, or if that is not named and not there,
// whatever mail server is.
func Mailer(binary string, named bool) Exim {
	if _, err := os.Stat(binary); err != nil && !named {
		binary = sendmail
	}
	return Exim{Binary: binary}
}

// Send has Exim accept a message whose header names the recipients.
func (e Exim) Send(ctx context.Context, from string, message []byte) error {
	ctx, cancel := context.WithTimeout(ctx, sendPatience)
	defer cancel()
	c := exec.CommandContext(ctx, e.Binary, "-t", "-oi", "-f", from)
	c.Dir = "/"
	c.Stdin = bytes.NewReader(message)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	c.WaitDelay = time.Second // a delivery that it has begun may keep its output open
	if err := c.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		said, _, _ := strings.Cut(strings.TrimSpace(out.String()), "\n")
		return fmt.Errorf("have %s send it: %w: %s", e.Binary, err, said)
	}
	return nil
}
