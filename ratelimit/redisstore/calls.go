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

// groupSends groups the sends that differ in nothing but the token.
func groupSends(sends []ratelimit.Send) (all []*sendGroup) {
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

// maxTokens is the most sends in one call, so that none takes Redis long.
const maxTokens = 256

// chargeCalls returns the calls that charge sends by force, as the ledger has them.
func (s *Store) chargeCalls(now time.Time, sends []ratelimit.Send) (all []linkCall) {
	for _, g := range groupSends(sends) {
		terms := s.terms(now, nil)
		terms.again = s.outbox.undoes(g.Tokens)
		t := ratelimit.Take{Subjects: g.Subjects, Tokens: g.Tokens, Age: g.Age, Outcome: g.Outcome, Force: true}
		steps, _ := s.steps(g.Subjects)
		for _, st := range steps {
			t.Subjects = st.subjects
			all = append(all, linkCall{st.link, takeCall(terms, t), st.subjects})
		}
	}
	return all
}

// A linkCall is a call and where it goes; link is nil while that is not known.
type linkCall struct {
	link     *link
	call     call
	subjects []ratelimit.Subject // of a take, whose answer has their uses
}

// dropCalls returns the calls that uncharge sends.
func (s *Store) dropCalls(terms terms, subjects []ratelimit.Subject, tokens []ratelimit.Token) (all []linkCall) {
	steps, _ := s.steps(subjects)
	for _, st := range steps {
		all = append(all, linkCall{link: st.link, call: dropCall(terms, st.subjects, tokens)})
	}
	return all
}

// callsFor returns the calls that merge an entry of the outbox that is no reset.
func (s *Store) callsFor(now time.Time, e *pendingWrite) []linkCall {
	if e.Undo > 0 {
		terms := s.terms(now, nil)
		terms.attempt = e.Undo
		return s.dropCalls(terms, e.Subjects, e.Tokens)
	}
	var all []linkCall
	for i := range e.fresh { // in their order
		all = append(all, s.chargeCalls(now, e.fresh[i:i+1])...)
	}
	return append(all, s.chargeCalls(now, s.ledger.Charged(now, e.Tokens))...)
}

// carriedOut reports whether a take or drop was carried out.
func carriedOut(reply any) bool {
	numbers, err := integers(reply)
	return err == nil && len(numbers) > 0 && numbers[0] != statusBuried
}
