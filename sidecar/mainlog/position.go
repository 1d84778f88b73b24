package mainlog

import "hash/fnv"

// A position is how much of each file of a log was read. What it does not have was not
// read, whatever the name, age or inode of the file.
//
// A file is identified by the hash of what was read of it, at most its first firstSize
// bytes: they stay the same when it is moved, copied or compressed, and differ when it is
// truncated and written again.
type position struct {
	Read map[uint64]int64 `json:"read"` // bytes, in whole lines
	In   uint64           `json:"in"`   // key of the file within which reading stopped; 0 if it stopped between two
}

// firstSize is how many bytes identify a file: some lines, each with its time and an id.
const firstSize = 1024

func hashOfFirst(firstBytes []byte, read int64) uint64 {
	h := fnv.New64a()
	h.Write(firstBytes[:min(read, int64(len(firstBytes)))])
	return h.Sum64()
}

// find returns how much of a file was read, and its key. A file that has become shorter is
// another one.
func (p *position) find(s *source) (key uint64, read int64) {
	for k, n := range p.Read {
		if n > read && int64(len(s.firstBytes)) >= min(n, firstSize) && hashOfFirst(s.firstBytes, n) == k && (s.packed != nil || s.size() >= n) {
			key, read = k, n
		}
	}
	return key, read
}

// set notes how much of a file was read. The file's key may change as more of it is read:
// was is the key before.
func (p *position) set(was, key uint64, read int64) {
	delete(p.Read, was)
	p.Read[key], p.In = read, key
}

// end notes that reading did not stop within a file, but at its end.
func (p *position) end(key uint64) {
	if p.In == key {
		p.In = 0
	}
}

// prune forgets files that are gone. It reports false if reading stopped within one of
// them.
func (p *position) prune(files []*source) bool {
	read := map[uint64]int64{}
	for _, s := range files {
		if key, n := p.find(s); n > 0 {
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
