package mainlog

import "hash/fnv"

// A position is how far a log is read: of each of its files, how much. What is
// not in it was not read, whatever its name, age or inode.
//
// A file is known by the hash of what was read of it, of at most its first
// headSize bytes: they stay when it is moved, copied or compressed, and are others
// when it is truncated and written again.
type position struct {
	Read map[uint64]int64 `json:"read"` // bytes, in whole lines
	In   uint64           `json:"in"`   // the one within which reading ended; 0 if it ended between two
}

// headSize is how much of a file tells it from all others, in bytes: some lines,
// each with its time and an id.
const headSize = 1024

func beginning(head []byte, read int64) uint64 {
	h := fnv.New64a()
	h.Write(head[:min(read, int64(len(head)))])
	return h.Sum64()
}

// of finds how much of a file was read, and by what it is known. One that has
// become shorter is another one.
func (p *position) of(s *source) (key uint64, read int64) {
	for k, n := range p.Read {
		if n > read && int64(len(s.head)) >= min(n, headSize) && beginning(s.head, n) == k && (s.packed != nil || s.size() >= n) {
			key, read = k, n
		}
	}
	return key, read
}

// set notes how much of a file was read, which was known by was.
func (p *position) set(was, key uint64, read int64) {
	delete(p.Read, was)
	p.Read[key], p.In = read, key
}

// end notes that reading did not end within a file, but at its end.
func (p *position) end(key uint64) {
	if p.In == key {
		p.In = 0
	}
}

// keep forgets what is known of files that are gone. It reports false if
// reading ended within one of them.
func (p *position) keep(files []*source) bool {
	read := map[uint64]int64{}
	for _, s := range files {
		if key, n := p.of(s); n > 0 {
			read[key] = n
		}
	}
	in := p.In
	if _, found := read[in]; !found {
		p.In = 0
	}
	p.Read = read
	return p.In == in
}
