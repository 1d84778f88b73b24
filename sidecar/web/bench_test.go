package web

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"sluice/sidecar"
)

// What metrics add to each question.
func BenchmarkQuestion(b *testing.B) {
	m := New(Options{})
	b.RunParallel(func(pb *testing.PB) {
		r := sidecar.Request{Stage: sidecar.StageData, Sender: "news@a.example"}
		for pb.Next() {
			m.answered(time.Now(), &r, sidecar.Accept)
		}
	})
}

// A scrape, and the look at all domains, each of a hundred thousand.
func BenchmarkScrape(b *testing.B) {
	s := newSite(b, "[metrics]\ntop = 100\n"+limit4)
	for i := range 100_000 {
		s.ask(sidecar.StageData, fmt.Sprintf("news@d%d.example", i))
	}
	s.survey()
	handler := s.metrics.Handler()
	b.Run("scrape", func(b *testing.B) {
		for b.Loop() {
			w := &discard{ResponseWriter: httptest.NewRecorder()}
			handler.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		}
	})
	b.Run("survey", func(b *testing.B) {
		each, done := s.metrics.Survey(s.now)
		all := s.standings()
		for b.Loop() {
			for _, st := range all {
				each(st)
			}
			done()
		}
	})
}

// A discard forgets the body of an answer.
type discard struct{ http.ResponseWriter }

// Write implements io.Writer.
func (discard) Write(p []byte) (int, error) { return io.Discard.Write(p) }

// A question with all of the engine behind it, with metrics and without.
func BenchmarkDecision(b *testing.B) {
	for _, with := range []bool{false, true} {
		b.Run(fmt.Sprintf("metrics=%v", with), func(b *testing.B) {
			s := newSite(b, "[limits]\nhourly = 0\n")
			asker := Asker(s.Engine)
			if with {
				asker = s.asker
			}
			r := sidecar.Request{Stage: sidecar.StageRcpt, Sender: "news@a.example", Recipient: "u@far.example",
				Submitter: sidecar.Submitter{Auth: "news@a.example", ClientAddress: "192.0.2.1"}}
			for b.Loop() {
				asker.Ask(context.Background(), time.Now(), r)
			}
		})
	}
}
