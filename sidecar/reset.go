package sidecar

// A Reset is that a domain started at zero. What was noted of it under an earlier
// epoch is void. It may be told more than once.
type Reset struct {
	Domain    string
	Epoch     int64 // of the counts since
	Elsewhere bool  // another node has reset it, and told all others
}
