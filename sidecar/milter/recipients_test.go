package milter

import (
	"slices"
	"testing"

	"sluice/sidecar/envelope"
)

// In the list of recipients each is found again, whatever its sender has put into it.
func TestJoinedRecipientsAreFoundAgain(t *testing.T) {
	all := []string{"Bob@Far.example", `"a, b"@far.example`, `"a\"b"@far.example`, `a\"@far.example`, `"x@y,z"@far.example`, `a\,b@far.example`,
		"a,b@far.example", " c@far.example", `"`, `\@far.example`, "", "postmaster", "d@xn--bcher-kva.example"}
	var want []envelope.Address
	for _, a := range all {
		want = append(want, envelope.Fold(a))
	}
	if got := envelope.AppendRecipients(nil, joinRecipients(all)); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
