package engine_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/sidecar/config"
	"sluice/sidecar/history"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/settings"
)

// An awayBoard is a board whose server has gone away: once posts is set, a Post
// waits for as long as the test likes, and fails.
type awayBoard struct {
	mu     sync.Mutex
	values map[string][]byte
	watch  func(key string, value []byte)
	posts  chan struct{} // if not nil, a Post is announced here
	fail   chan struct{} // and then waits for this
}

func (b *awayBoard) Post(_ context.Context, key string, value []byte) ([]byte, error) {
	if b.posts != nil {
		b.posts <- struct{}{}
		<-b.fail
		return nil, errors.New("Redis cannot be asked")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if stands := b.values[key]; stands != nil {
		return stands, nil
	}
	b.values[key] = value
	if b.watch != nil {
		b.watch(key, value)
	}
	return value, nil
}

func (b *awayBoard) Remove(_ context.Context, key string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.values, key)
	if b.watch != nil {
		b.watch(key, nil)
	}
	return nil
}

func (b *awayBoard) Tell(key string, value []byte, _ time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.watch != nil {
		b.watch(key, value)
	}
}

func (b *awayBoard) Watch(prefix string, f func(key string, value []byte)) {
	b.Entries(prefix, f)
	before := b.watch
	b.watch = func(key string, value []byte) {
		if before != nil {
			before(key, value)
		}
		if strings.HasPrefix(key, prefix) {
			f(key, value)
		}
	}
}

func (b *awayBoard) Entries(prefix string, f func(key string, value []byte)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var keys []string
	for key := range b.values {
		if len(key) >= len(prefix) && key[:len(prefix)] == prefix {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		f(key, b.values[key])
	}
}

func (b *awayBoard) Changed() <-chan struct{} { return nil }

// While a `sluice set` waits for a Redis that does not answer, what is limited for a
// time expires, the file and the panel's are read anew, what other nodes have set
// comes into force, and locks follow. All of it is over before the set is.
func TestASetThatWaitsForRedisHoldsNothingUp(t *testing.T) {
	b := &awayBoard{values: map[string][]byte{}}
	s := sharing(t, b)
	s.order(history.Edit{Scope: "a.example", Set: []string{"hourly=30"}, For: time.Hour})
	s.send(25)

	b.posts, b.fail = make(chan struct{}), make(chan struct{})
	set := make(chan error)
	go func() {
		_, err := s.Change(context.Background(), s.now, history.Edit{Scope: "default", Set: []string{"hourly=40"}, Who: "root"})
		set <- err
	}()
	<-b.posts
	var did []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		step := func(name string, do func()) { do(); did = append(did, name) }
		s.now = s.now.Add(time.Hour - time.Minute)
		s.send(5)
		s.now = s.now.Add(time.Minute)
		step("what was set for a time expires", func() { s.Engine.Tend(s.now) })
		step("the file is read", func() { s.SetConfig(s.now, parsed(t, "[limits]\nhourly = 4\n")) })
		step("a bad file is refused", func() { s.RefuseConfig(errors.New("bad")) })
		step("the panel's files are read", func() { s.SetPanel(s.now, settings.Panel{}) })
		step("another node's change is in force", func() {
			b.mu.Lock()
			b.values["threshold/000000000002"] = []byte(`{"number":2,"at":"2026-03-01T12:00:00Z","who":"carol","scope":"a.example","keys":[{"key":"hourly","to":5}]}`)
			b.watch("threshold/000000000002", b.values["threshold/000000000002"])
			b.mu.Unlock()
			s.Engine.Reload(s.now)
			s.limit(5)
		})
		step("the lock is made", func() { s.Engine.Reconcile(context.Background(), s.now) })
		step("explain and history answer", func() {
			if _, err := s.History(s.now, ""); err != nil {
				t.Error(err)
			}
		})
	}()
	select {
	case <-done:
	case <-time.After(hosttest.Patience()): // it waits for the set
		t.Errorf("done before the set: %q, and no more", did)
	}
	if content := s.content(aLock); !t.Failed() && content == "" {
		t.Error("no lock file")
	}
	close(b.fail)
	for waiting := true; waiting; {
		select {
		case <-b.posts: // it tries again
		case err := <-set:
			if waiting = false; err == nil {
				t.Error("the set has not failed")
			}
		}
	}
	<-done
}

// parsed is a configuration with local domains.
func parsed(t testing.TB, text string) *config.Config {
	t.Helper()
	c, err := config.Parse("test.toml", text+"\n[exim]\nlocal_domains = [\"local.example\"]\n")
	if err != nil {
		t.Fatal(err)
	}
	return c
}
