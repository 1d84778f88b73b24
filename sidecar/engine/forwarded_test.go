package engine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/logline"
)

// Other servers call spam what strangers send through a forwarder: the operator is told once an hour, and nobody is refused.
func TestForwardedSpamIsTold(t *testing.T) {
	s := newSite(t, "[limits]\nhourly = 100\n")
	s.now = time.Now()
	spam := func(n int, text string) {
		for i := range n {
			id := s.cameIn()
			to := fmt.Sprintf("r%d@far.example", i)
			s.want(s.Ask(context.Background(), s.now, stranger(id, to)), sidecar.Accept, "")
			s.tellOf(logline.Failed, id, to, text)
		}
	}
	told := func() int {
		return strings.Count(s.log.String(), "call spam what this address forwards for strangers")
	}
	const called = "SMTP error from remote mail server after end of data: 550 5.7.1 blocked as spam"
	spam(9, "SMTP error from remote mail server after RCPT TO: 550 no such user")
	spam(2, called)
	if told() != 0 {
		t.Error("told too early")
	}
	spam(9, called)
	if got := s.log.String(); told() != 1 || !strings.Contains(got, "domain=local.example scope=forward:list@local.example sends=3 to=far.example") || !strings.Contains(got, "blocked as spam") {
		t.Errorf("%d times in\n%s", told(), got)
	}
	s.now = s.now.Add(time.Hour)
	spam(3, called)
	if told() != 2 {
		t.Errorf("an hour later %d times", told())
	}
}
