package main

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"time"

	"github.com/alecthomas/kong"
	"github.com/posener/complete"
	"github.com/willabides/kongplete"

	"sluice/sidecar/admin"
)

// mostCompleted is how many words a shell is told at most.
const mostCompleted = 1000

// plainWord is a word that means nothing to any shell: shells put what they are told into the command
// line as it is, and senders choose names.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.@_:/+=-]*$`)

// completePatience is how long a shell waits for the running sluice when TAB is pressed.
const completePatience = time.Second

// completes answers a shell that asks which words may follow (COMP_LINE, as bash's complete -C has
// it), and reports whether one has. Arguments with the tag predictor:"scope" are domains, mailboxes
// and accounts of the running sluice.
func completes(parser *kong.Kong, scopes func() []string) (done bool) {
	kongplete.Complete(parser,
		kongplete.WithPredictor("scope", complete.PredictFunc(func(complete.Args) []string { return scopes() })),
		kongplete.WithExitFunc(func(int) { done = true }))
	return done
}

// scopes are what the running sluice knows of: those that send, and who sends most of them. None
// where it does not answer.
func (t *terminal) scopes() (names []string) {
	ctx, cancel := context.WithTimeout(t.ctx, completePatience)
	defer cancel()
	t.askAdmin("complete", func(a *admin.Client) error {
		status, err := a.Status(ctx, "")
		for _, d := range status.Domains {
			names = append(names, d.Domain)
		}
		for _, s := range status.Scopes {
			names = append(names, s.Scope)
		}
		who, errWho := a.WhoSends(ctx, "", mostCompleted)
		for _, d := range who.Domains {
			for _, author := range d.Authors {
				names = append(names, author.Key)
			}
		}
		return errors.Join(err, errWho)
	})
	slices.Sort(names)
	names = slices.DeleteFunc(slices.Compact(names), func(name string) bool { return !plainWord.MatchString(name) })
	return names[:min(len(names), mostCompleted)]
}
