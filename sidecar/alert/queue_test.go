package alert

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/config"
	"sluice/sidecar/event"
	"sluice/sidecar/incident"
)

// run runs Alerts until the test calls stop.
func (d *desk) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	d.turn.Lock()
	return func() {
		d.turn.Unlock()
		cancel()
		<-ended
	}
}

// sleep lets channels have their turn.
func (d *desk) sleep(t time.Duration) {
	d.turn.Unlock()
	time.Sleep(t)
	d.turn.Lock()
}

// takes has a function take notices, while the test sleeps.
func (d *desk) takes(take func(config.Channel, Notice) error) {
	d.Send = func(_ context.Context, c config.Channel, n Notice) error {
		d.turn.Lock()
		defer d.turn.Unlock()
		return take(c, n)
	}
}

// A channel that fails is tried after 10 seconds, twice as long each time, an hour at last, and a
// notice for a day.
func TestAChannelThatFailsPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, anyone+"[alert]\nrepeat = \"48h\"\n")
		d.now = time.Now()
		var at []string
		d.takes(func(config.Channel, Notice) error {
			at = append(at, time.Since(d.now).Round(time.Second).String())
			return errors.New("no Exim")
		})
		d.opened(1, "a.example", incident.Critical)
		stop := d.run()
		d.sleep(23 * time.Hour)
		if got := strings.Join(at[:12], " "); got != "0s 10s 30s 1m10s 2m30s 5m10s 10m30s 21m10s 42m30s 1h25m10s 2h25m10s 3h25m10s" {
			t.Errorf("tried after %s", got)
		}
		if d.files() != 1 {
			t.Errorf("%d files after 23 hours", d.files())
		}
		d.sleep(3 * time.Hour)
		stop()
		if got := d.Counts(); got[0] != (Counts{Channel: "mail", Failed: int64(len(at)), Dropped: 1}) {
			t.Errorf("%+v after %d tries", got, len(at))
		}
		last := d.events[len(d.events)-1]
		if last.Kind != event.NoticeDropped || len(d.events) != len(at)+1 || d.files() != 0 {
			t.Errorf("%d events, the last %+v; %d files", len(d.events), last, d.files())
		}
	})
}

// A webhook that hangs delays no mail.
func TestAChannelThatHangsDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, anyone+"[[alert.to]]\nwebhook = \"https://a.example\"\n")
		d.now = time.Now()
		mailed := 0
		d.takes(func(config.Channel, Notice) error { mailed++; return nil })
		mail := d.Send
		d.Send = func(ctx context.Context, c config.Channel, n Notice) error {
			if c.Kind == config.AlertWebhook {
				<-ctx.Done()
				return ctx.Err()
			}
			return mail(ctx, c, n)
		}
		stop := d.run()
		for n := range int64(5) {
			d.opened(n, fmt.Sprintf("d%d.example", n), incident.Critical)
		}
		d.sleep(time.Second)
		if mailed != 5 {
			t.Errorf("%d mails", mailed)
		}
		stop()
		if got := d.Counts(); got[0] != (Counts{Channel: "mail", Delivered: 5}) || got[1] != (Counts{Channel: "webhook", Waiting: 5}) {
			t.Errorf("%+v", got)
		}
	})
}

// One notice that a channel never takes keeps no others from it, but for those of its incident.
func TestANoticeThatIsNeverTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, anyone)
		d.now = time.Now()
		var taken []string
		answer := errors.New("500")
		d.takes(func(_ config.Channel, n Notice) error {
			if n.Incident == "mx1-1" && n.State == StateOpen {
				return answer
			}
			taken = append(taken, string(n.State)+" "+n.Incident)
			return nil
		})
		stop := d.run()
		one := d.opened(1, "a.example", incident.Critical)
		d.sleep(time.Second)
		one.Closed = time.Now()
		d.changes(one, func(*incident.Incident) {})
		two := d.opened(2, "b.example", incident.Critical)
		d.sleep(time.Minute)
		two.Closed = time.Now()
		d.changes(two, func(*incident.Incident) {})
		d.sleep(10 * time.Minute)
		if got := strings.Join(taken, ", "); got != "open mx1-2, closed mx1-2" {
			t.Errorf("taken: %s", got)
		}
		answer = refused{answer}
		d.sleep(3 * time.Hour)
		stop()
		if got := strings.Join(taken, ", "); got != "open mx1-2, closed mx1-2, closed mx1-1" {
			t.Errorf("when it is refused for good, taken: %s", got)
		}
	})
}

// What waits is delivered after a crash, and each thing in its order.
func TestWhatWaitsSurvivesACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, anyone)
		d.now = time.Now()
		d.step(d.now)
		for n := range int64(12) {
			d.opened(n, fmt.Sprintf("d%d.example", n), incident.Critical)
		}
		d.step(d.now)
		d.restart()
		var taken []string
		d.Send = func(_ context.Context, _ config.Channel, n Notice) error {
			taken = append(taken, n.Incident)
			return nil
		}
		stop := d.run()
		time.Sleep(time.Second)
		stop()
		if len(taken) != 12 || taken[0] != "mx1-0" || taken[11] != "mx1-11" || d.files() != 0 {
			t.Errorf("%v, %d files", taken, d.files())
		}
	})
}

// Channels come and go with the configuration, without a restart.
func TestChannelsFollowTheConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, anyone)
		d.now = time.Now()
		to := map[string]int{}
		d.takes(func(c config.Channel, n Notice) error {
			to[c.Target]++
			return nil
		})
		stop := d.run()
		d.opened(1, "a.example", incident.Critical)
		d.sleep(2 * time.Second)
		d.configure("[[alert.to]]\nmail = \"night@example.net\"\n")
		d.sleep(2 * time.Second) // a new channel is told what is open
		d.opened(2, "b.example", incident.Critical)
		d.sleep(2 * time.Second)
		stop()
		if to["ops@example.net"] != 1 || to["night@example.net"] != 2 {
			t.Errorf("%v", to)
		}
	})
}

// Alertmanager gets all that is open each minute, and after each change; what is over, with its end.
func TestAlertmanagerIsToldAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, "[[alert.to]]\nwebhook = \"http://127.0.0.1:9093\"\nformat = \"alertmanager\"\n")
		d.now = time.Now()
		var posts []string
		var down error
		d.takes(func(c config.Channel, n Notice) error {
			text, err := body(c, n)
			posts = append(posts, string(text))
			return errors.Join(err, down)
		})
		stop := d.run()
		i := d.opened(1, "a.example", incident.Warning)
		d.sleep(150 * time.Second)
		if len(posts) != 3 || strings.Contains(posts[2], "endsAt") {
			t.Fatalf("%d posts, the last %s", len(posts), posts[len(posts)-1])
		}
		for _, part := range []string{`"alertname":"SluiceLimit"`, `"domain":"a.example"`, `"severity":"warning"`, `"startsAt":"` + d.now.Format(time.RFC3339)} {
			if !strings.Contains(posts[0], part) {
				t.Errorf("%s is not in %s", part, posts[0])
			}
		}
		down = errors.New("away")
		d.now = time.Now()
		d.closes(i)
		d.sleep(90 * time.Second)
		down = nil
		d.sleep(2 * time.Minute)
		if last := posts[len(posts)-1]; !strings.Contains(last, `"endsAt":"`+d.now.Format(time.RFC3339)) {
			t.Errorf("its end is not in %s", last)
		}
		d.sleep(time.Hour)
		n := len(posts)
		d.sleep(time.Hour)
		stop()
		if len(posts) != n {
			t.Errorf("%d posts when all is long over", len(posts)-n)
		}
	})
}

// A test notice goes to one channel, or to all.
func TestATestNotice(t *testing.T) {
	d := newDesk(t, anyone+"[[alert.to]]\nwebhook = \"https://a.example/secret\"\n")
	d.Send = func(_ context.Context, c config.Channel, n Notice) error {
		if c.Kind == config.AlertWebhook {
			return errors.New("away")
		}
		return nil
	}
	all, err := d.Test(t.Context(), noon, "")
	want := Tested{[]Result{{"mail", "ops@example.net", ""}, {"webhook", "https://a.example/***", "away"}}}
	if diff := cmp.Diff(want, all); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	if all, err := d.Test(t.Context(), noon, "mail"); err != nil || len(all.Channels) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
	if _, err := d.Test(t.Context(), noon, "fax"); !errors.Is(err, ErrNoChannel) {
		t.Errorf("%v", err)
	}
}
