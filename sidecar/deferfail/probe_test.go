package deferfail

import (
	"strings"
	"testing"
	"time"
	"unsafe"
)

// A subject is a part of its request, which may be of megabytes, and is not kept with it.
func TestProbesKeepNoRequest(t *testing.T) {
	p := probes{subjects: map[string]*subjectProbes{}}
	request := "a.example " + strings.Repeat("x", 1000)
	p.left(time.Unix(0, 0), request[:9], 5)
	for subject := range p.subjects {
		if unsafe.StringData(subject) == unsafe.StringData(request) {
			t.Errorf("%s holds on to its request", subject)
		}
	}
}
