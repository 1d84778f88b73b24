package simulate

import (
	"slices"
	"testing"

	"sluice/sidecar/envelope"
)

// A list of recipients that a simulation asks about is of those that the log shows,
// whatever is in their local parts.
func TestListedRecipientsAreThoseOfTheLog(t *testing.T) {
	written := []string{"bob@far.example", "BoB@FAR.example", `a"b@far.example`, `a\b@far.example`, "a,b@far.example",
		" a @far.example", "\u00a0a@far.example", "a@b@far.example", "@far.example", `"@far.example`, `\@far.example`, "nobody"}
	var to []recipient
	var want []envelope.Address
	for _, w := range written {
		to, want = append(to, recipient{written: w, Address: envelope.FoldRouted(w)}), append(want, envelope.FoldRouted(w))
		if got := envelope.AppendRecipients(nil, recipientsOf(to[len(to)-1:])); w != "nobody" && !slices.Equal(got, want[len(want)-1:]) {
			t.Errorf("%q is listed as %q, which is %q", w, recipientsOf(to[len(to)-1:]), got)
		}
	}
	to, want = to[:len(to)-1], want[:len(want)-1] // who has no domain is not asked about
	if got := envelope.AppendRecipients(nil, recipientsOf(to)); !slices.Equal(got, want) {
		t.Errorf("-want +got:\n%q\n%q", want, got)
	}
}
