package cluster

import (
	"sluice/sidecar"
	"sluice/sidecar/usual"
)

// A Usual is what the authors of a domain usually send on all nodes: the sum of what is usual on
// each, as far as the others have told it; and what they have told of how much is sent now.
type Usual struct {
	Own    *usual.Domain
	Day    uint16
	Others []Report
}

// sum adds up what the other nodes have told of an author.
func (u Usual) sum(author string, of func(*Author) int64) (n int64) {
	for i := range u.Others {
		if x := u.Others[i].Of(author); x != nil {
			n += of(x)
		}
	}
	return n
}

// Sent is what other nodes have told that an author has sent.
func (u Usual) Sent(author string) int64 {
	return u.sum(author, func(x *Author) int64 { return x.Sent })
}

// Newest is Sent of the last five sixths of the window, at least.
func (u Usual) Newest(author string) int64 {
	return u.sum(author, func(x *Author) int64 { return x.Newest })
}

// Quota is as that of usual.Domain.
func (u Usual) Quota(author string) int64 {
	return u.Own.Quota(author, u.Day) + u.sum(author, func(x *Author) int64 { return x.Quota })
}

// OthersQuota is as that of usual.Domain.
func (u Usual) OthersQuota(author string) int64 {
	n := u.Own.OthersQuota(author, u.Day)
	for i := range u.Others {
		n += u.Others[i].Quota
		if x := u.Others[i].Of(author); x != nil {
			n -= x.Quota
		}
	}
	return n
}

// Free is as that of usual.Domain.
func (u Usual) Free(author string, limit int64) int64 {
	n := u.Own.Free(author, u.Day, limit)
	if len(u.Others) == 0 {
		return n
	}
	known := n > 0 || u.sum(author, func(x *Author) int64 { return x.Free }) > 0
	n = u.Own.Free(author, u.Day, 0) + u.sum(author, func(x *Author) int64 { return x.Free })
	if known {
		n = max(n, limit/20)
	}
	return n
}

// Authors are those that other nodes have told of.
func (u Usual) Authors() map[string]bool {
	if len(u.Others) == 0 {
		return nil
	}
	keys := map[string]bool{}
	for i := range u.Others {
		for j := range u.Others[i].Authors {
			keys[u.Others[i].Authors[j].Key] = true
		}
	}
	return keys
}

// AddUsual adds to a report of a domain what is usual here, also of those who have sent nothing now.
func (r *Report) AddUsual(hours *usual.Domain, day uint16) {
	r.Quota = hours.OthersQuota("", day)
	for i := range r.Authors {
		x := &r.Authors[i]
		x.Free, x.Quota = hours.Free(x.Key, day, 20), hours.Quota(x.Key, day) // who is known here has 1 at least, of 20
	}
	for key := range hours.Authors() {
		if len(r.Authors) >= MaxAuthors {
			break
		}
		if q := hours.Quota(key, day); q > 0 && r.Of(key) == nil {
			r.Authors = append(r.Authors, Author{Key: key, Proof: sidecar.Unproven, Free: hours.Free(key, day, 20), Quota: q})
		}
	}
}
