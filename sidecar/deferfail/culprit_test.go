package deferfail

import (
	"slices"
	"strings"
	"testing"
)

// Who is to blame for the bad sends of a subject: those who are over its percentage by
// themselves, if without them it is not, there are others, and all of that is known.
func TestCulprits(t *testing.T) {
	const eve, script, login = "eve@a.example", "script:/home/bob/wp", "login:bob"
	author := func(key string, sent int64, known bool) AuthorSent {
		return AuthorSent{Key: key, Sent: sent, AtLeast: sent, Known: known}
	}
	colleague := author("ann@a.example", 10, true)
	eves := map[string]*blame{eve: {bad: 12, against: 10}}
	limits := Rate{sent: 30, Bad: 12, min: 5, percent: 25}
	for _, c := range []struct {
		what    string
		f       Rate
		by      []AuthorSent
		unknown int64
		blames  map[string]*blame
		settled int64
		want    string
		blamed  string
	}{
		{"one of two", limits, []AuthorSent{author(eve, 20, false), colleague}, 0, eves, 25, eve, ""},
		{"a lone author", limits, []AuthorSent{author(eve, 30, true)}, 0, eves, 30, "", ""},
		{"others who are new", limits, []AuthorSent{author(eve, 20, true), author("ann@a.example", 10, false)}, 0, eves, 25, "", ""},
		{"others of whom nothing is known yet", limits, []AuthorSent{author(eve, 20, false), colleague}, 0, eves, 22, "", ""},
		{"10% are nobody's", limits, []AuthorSent{author(eve, 17, false), colleague}, 3, eves, 25, eve, ""},
		{"more than 10% are nobody's", limits, []AuthorSent{author(eve, 16, false), colleague}, 4, eves, 25, "", ""},
		{"too few speak against the author", limits, []AuthorSent{author(eve, 20, false), colleague}, 0, map[string]*blame{eve: {bad: 12, against: 4}}, 25, "", ""},
		{"too small a part speaks against the author", limits, []AuthorSent{author(eve, 50, false), colleague}, 0, eves, 55, "", ""},
		{"without it there are still too many", Rate{sent: 30, Bad: 18, min: 5, percent: 25}, []AuthorSent{author(eve, 20, false), colleague}, 0,
			map[string]*blame{eve: {bad: 12, against: 12}, "ann@a.example": {bad: 6}}, 30, "", ""},
		{"two", Rate{sent: 50, Bad: 24, min: 5, percent: 25}, []AuthorSent{colleague, author(login, 20, false), author(eve, 20, false)}, 0,
			map[string]*blame{eve: {bad: 11, against: 11}, login: {bad: 13, against: 13}}, 50, login + " " + eve, ""},
		{"the worst is enough", Rate{sent: 100, Bad: 30, min: 5, percent: 25}, []AuthorSent{author(eve, 30, false), author(login, 20, false), author("ann@a.example", 50, true)}, 0,
			map[string]*blame{eve: {bad: 22, against: 22}, login: {bad: 8, against: 8}}, 100, eve, ""},
		{"a script", limits, []AuthorSent{author(script, 20, false), colleague}, 0, map[string]*blame{script: {bad: 12, against: 12}}, 30, script, ""},
		{"a web server", limits, []AuthorSent{author("service:www-data", 20, true), colleague}, 0, map[string]*blame{"service:www-data": {bad: 12, against: 12}}, 30, "", ""},
		{"a forwarder", limits, []AuthorSent{author("forward:info@a.example", 20, true), colleague}, 0, map[string]*blame{"forward:info@a.example": {bad: 12, against: 12}}, 30, "", ""},
		{"a relay", limits, []AuthorSent{author("client:192.0.2.1", 20, true), colleague}, 0, map[string]*blame{"client:192.0.2.1": {bad: 12, against: 12}}, 30, "", ""},
		{"a fourth", limits, []AuthorSent{author(eve, 20, false), colleague}, 0, eves, 25, "", "1@a.example 2@a.example 3@a.example"},
		{"a third", limits, []AuthorSent{author(eve, 20, false), colleague}, 0, eves, 25, eve, "1@a.example 2@a.example"},
		{"two, of whom there is room for one", Rate{sent: 50, Bad: 24, min: 5, percent: 25}, []AuthorSent{colleague, author(login, 20, false), author(eve, 20, false)}, 0,
			map[string]*blame{eve: {bad: 11, against: 11}, login: {bad: 13, against: 13}}, 50, "", "1@a.example 2@a.example"},
		{"the others alone are over the percentage", Rate{sent: 130, Bad: 17, min: 5, percent: 25}, []AuthorSent{author("1@a.example", 100, false), author(eve, 20, false), colleague}, 0,
			map[string]*blame{eve: {bad: 12, against: 12}, "ann@a.example": {bad: 5}}, 130, "", "1@a.example"},
		{"what is bad of the blamed is not the others'", Rate{sent: 130, Bad: 17, min: 5, percent: 25}, []AuthorSent{author("1@a.example", 100, false), author(eve, 20, false), colleague}, 0,
			map[string]*blame{eve: {bad: 12, against: 12}, "1@a.example": {bad: 5}}, 130, eve, "1@a.example"},
		{"of the others nothing is settled", Rate{sent: 130, Bad: 12, min: 5, percent: 25}, []AuthorSent{author("1@a.example", 100, false), author(eve, 20, false), colleague}, 0,
			eves, 122, "", "1@a.example"},
		{"the only one who is known is blamed", limits, []AuthorSent{author(eve, 20, false), author("ann@a.example", 10, true), author("ben@a.example", 10, false)}, 0, eves, 40, "", "ann@a.example"},
	} {
		var got []string
		for _, a := range culprits(c.f, c.by, c.unknown, c.blames, c.settled, strings.Fields(c.blamed)) {
			got = append(got, a.Key)
		}
		if !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%s: %v, want %q", c.what, got, c.want)
		}
	}
}
