package lockdir

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNamesThatEximNeverAsksForAreToldOnce(t *testing.T) {
	r := newRig(t)
	touch := func(name string) { r.must(os.WriteFile(filepath.Join(r.path, name), nil, 0o644)) }
	for name, want := range map[string]string{
		"max_hourly_Example.COM":      "would have to be max_hourly_example.com",
		"MAX_DEFERFAIL_example.com":   "would have to be max_deferfail_example.com",
		"max_hourly_bücher.example":   "would have to be max_hourly_xn--bcher-kva.example",
		"max_hourly_.example":         "names no domain",
		"max_hourly-example.com":      "names no domain",
		"max_hourly_news@example.com": "names no domain",
	} {
		touch(name)
		events := r.settle()
		r.wantEvents(events, "ignored")
		if len(events) == 1 && !strings.Contains(events[0].Err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, events[0].Err, want)
		}
		r.must(os.Remove(filepath.Join(r.path, name)))
		r.wantEvents(r.settle())
	}
	for _, name := range []string{"Example.COM", "track", "max_hourly_example.com~"} { // nobody means a lock
		touch(name)
		r.wantEvents(r.settle())
	}
	// Made again it is reported again, and of many not all.
	for i := range 30 {
		touch(fmt.Sprintf("max_hourly_%02d.Example", i))
	}
	events := r.settle()
	r.wantEvents(events, "ignored")
	if text := events[0].Err.Error(); !strings.HasSuffix(text, "; and 20 more") {
		t.Error(text)
	}
	if f := r.d.Failure(); f != nil {
		t.Errorf("failure: %v", f)
	}
}
