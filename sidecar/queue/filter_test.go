package queue

import (
	"fmt"
	"testing"
	"time"

	"sluice/sidecar/logline"
)

// What the flags select that need a header, the log, or the quarantine.
func TestQueueSelectors(t *testing.T) {
	s := newSpool(t, 100)
	ids := make([]string, 5)
	for i := range ids {
		ids[i] = s.id(i, time.Duration(5-i)*time.Hour)
	}
	subject := func(text, header string) string {
		line := "Subject: " + text + "\n"
		return fmt.Sprintf("%s%03d  %s", header[:len(header)-len("006  X: y\n")], len(line), line)
	}
	s.write("input", ids[0], subject("Big Sale", header(ids[0], "a@b.example", auth, "NN gone@other.example", "gone@other.example", "r@far.example", "x@far.example", "q@away.example")))
	s.write("input", ids[1], subject("=?utf-8?q?gro=C3=9Fer_SALE?=", header(ids[1], "c@b.example", "-host_address [192.0.2.7]:1\n", "XX", "r@away.example")))
	s.write("input", ids[2], subject("failed", header(ids[2], "", "-ident exim\n-local\n", "XX", "news@shop.example")))
	s.write(logline.QuarantineQueue+"/input", ids[3], subject("sale", header(ids[3], "a@b.example", auth, "XX", "r@far.example")))
	s.write("input", ids[4], subject("x", header(ids[4], "", "-ident exim\n-local\n", "XX", "z@here.example")))
	s.Observe([]logline.Entry{
		{Kind: logline.Arrived, ID: s.id(9, 9*time.Hour), Arrival: logline.Arrival{Auth: "news@shop.example"}},
		{Kind: logline.Arrived, ID: ids[2], Arrival: logline.Arrival{Answers: s.id(9, 9*time.Hour)}},
		{Kind: logline.Deferred, ID: ids[0], Attempt: logline.Attempt{Recipient: "q@away.example", Host: "MX.else.example", Text: "451"}},
	})
	for what, c := range map[string]struct {
		Selection
		want []string
	}{
		"a scope, and its bounces": {Selection{Scope: "news@shop.example"}, []string{ids[0], ids[2]}},
		"its bounces":              {Selection{BouncesOf: "news@shop.example"}, ids[2:3]},
		"those of its domain":      {Selection{BouncesOf: "shop.example"}, ids[2:3]},
		"subject":                  {Selection{Subject: "sAle"}, ids[:2]},
		"a null sender":            {Selection{Sender: "<>"}, []string{ids[2], ids[4]}},
		"subject, decoded":         {Selection{Subject: "~^großer"}, ids[1:2]},
		"domain":                   {Selection{To: "away.EXAMPLE"}, ids[:2]},
		"the host that deferred":   {Selection{To: "mx.else.example"}, ids[:2]},
		"it has that already":      {Selection{To: "other.example"}, nil},
		"both of one recipient":    {Selection{To: "away.example", Recipient: "x@"}, nil},
		"since":                    {Selection{Since: s.now.Add(-4 * time.Hour)}, []string{ids[1], ids[2], ids[4]}},
		"until":                    {Selection{Until: s.now.Add(-4 * time.Hour)}, ids[:1]},
		"quarantined":              {Selection{Quarantined: true}, ids[3:4]},
		"quarantined of another":   {Selection{Quarantined: true, Scope: "here.example"}, nil},
		"its queue":                {Selection{Queue: logline.QuarantineQueue}, ids[3:4]},
		"its id":                   {Selection{ID: ids[3]}, ids[3:4]},
	} {
		s.wantIDs(what, c.Selection, c.want...)
		all, err := s.Select(s.now, c.Selection)
		if len(all) != len(c.want) || err != nil {
			t.Errorf("%s: %d messages, %v, want %d", what, len(all), err, len(c.want))
		}
	}
	r := s.report(Selection{Scope: "here.example"})
	if q := r.Quarantine; q.Messages != 1 || !q.Oldest.Equal(s.now.Add(-2*time.Hour)) {
		t.Errorf("in the quarantine: %+v", q)
	}
	if _, err := s.Select(s.now, Selection{Subject: "~("}); err == nil {
		t.Error("a wrong expression is no error")
	}
}
