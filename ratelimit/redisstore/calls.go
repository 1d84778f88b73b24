package redisstore

import (
	"fmt"
	"time"

	"sluice/ratelimit"
)

// A sendGroup is sends that one call can charge.
type sendGroup struct {
	Subjects []ratelimit.Subject
	Tokens   []ratelimit.Token
	Age      time.Duration
	Outcome  ratelimit.Outcome
}

// group puts together the sends that differ in nothing but the token.
func group(sends []ratelimit.Send) (all []*sendGroup) {
	index := map[string]*sendGroup{}
	for _, s := range sends {
		key := fmt.Sprint(s.Subjects, s.Age, s.Outcome)
		g := index[key]
		if g == nil || len(g.Tokens) == maxTokens {
			g = &sendGroup{Subjects: s.Subjects, Age: s.Age, Outcome: s.Outcome}
			index[key] = g
			all = append(all, g)
		}
		g.Tokens = append(g.Tokens, s.Token)
	}
	return all
}

// maxTokens is for how many sends one call is made, so that none takes long.
const maxTokens = 256

// puts are the calls that make Redis hold sends as the ledger has them.
func (s *Store) puts(now time.Time, sends []ratelimit.Send) (all []linkCall) {
	for _, g := range group(sends) {
		terms := s.terms(now, nil)
		terms.again = s.arrears.undoing(g.Tokens)
		t := ratelimit.Take{Subjects: g.Subjects, Tokens: g.Tokens, Age: g.Age, Outcome: g.Outcome, Force: true}
		steps, _ := s.steps(g.Subjects)
		for _, st := range steps {
			t.Subjects = st.subjects
			all = append(all, linkCall{st.link, takeCall(terms, t), st.subjects})
		}
	}
	return all
}

// A linkCall is a call and where it goes; link is nil where nobody knows.
type linkCall struct {
	link     *link
	call     call
	subjects []ratelimit.Subject // of a take, whose uses are then seen
}

// drops are the calls that take sends back.
func (s *Store) drops(terms terms, subjects []ratelimit.Subject, tokens []ratelimit.Token) (all []linkCall) {
	steps, _ := s.steps(subjects)
	for _, st := range steps {
		all = append(all, linkCall{link: st.link, call: dropCall(terms, st.subjects, tokens)})
	}
	return all
}

// calls are what telling an arrear takes that is no reset.
func (s *Store) calls(now time.Time, e *arrear) []linkCall {
	if e.Undo > 0 {
		terms := s.terms(now, nil)
		terms.attempt = e.Undo
		return s.drops(terms, e.Subjects, e.Tokens)
	}
	var all []linkCall
	for i := range e.fresh { // in their order
		all = append(all, s.puts(now, e.fresh[i:i+1])...)
	}
	return append(all, s.puts(now, s.ledger.Charged(now, e.Tokens))...)
}

// done tells whether a take or drop was not given up.
func done(reply any) bool {
	numbers, err := integers(reply)
	return err == nil && len(numbers) > 0 && numbers[0] != statusBuried
}
