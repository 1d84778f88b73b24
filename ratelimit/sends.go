package ratelimit

import "math/bits"

// A send is the record of a charged send. It is kept at 16 bytes, because a busy
// host has ten million of them.
type send struct {
	token  Token  // 0: an empty slot
	when   uint32 // date: Unix milliseconds modulo 2^32, which is 49 days and so more than any window
	payers payers
}

// date is the send's date in full Unix milliseconds; it must not be after now.
func (s send) date(now int64) int64 { return now - int64(uint32(now)-s.when) }

const sendShards = 256

// sends holds the records of all sends, in shards, so that others wait only briefly
// while one shard is rebuilt or copied into a snapshot.
type sends [sendShards]sendShard

func (t *sends) shard(token Token) *sendShard { return &t[shardOf(token)] }

// mix hashes a token once more, because tests use tokens that are no hashes, such as 1,
// 2, 3. Low bits choose the shard, high bits the slot.
func mix(t Token) uint64 { return uint64(t) * 0x9e3779b97f4a7c15 }

func shardOf(t Token) int { return int(mix(t) >> 8 % sendShards) }

// A sendShard is an open-addressing table with linear probing.
type sendShard struct {
	slots []send
	n     int
	upTo  uint64 // the restored shard has the changes up to this one; see Ledger.Replay
}

// home is the slot where the search for a token begins.
func (s *sendShard) home(t Token) int {
	hi, _ := bits.Mul64(mix(t), uint64(len(s.slots)))
	return int(hi)
}

func (s *sendShard) next(i int) int {
	if i++; i == len(s.slots) {
		return 0
	}
	return i
}

// find returns the slot of a token, or -1.
func (s *sendShard) find(t Token) int {
	if s.n == 0 {
		return -1
	}
	for i := s.home(t); s.slots[i].token != 0; i = s.next(i) {
		if s.slots[i].token == t {
			return i
		}
	}
	return -1
}

// crowded reports whether the shard must be rebuilt before another put.
func (s *sendShard) crowded() bool { return (s.n+1)*100 > len(s.slots)*85 }

// put adds a send. Its token must not be in the shard, nor the shard crowded.
func (s *sendShard) put(x send) {
	i := s.home(x.token)
	for s.slots[i].token != 0 {
		i = s.next(i)
	}
	s.slots[i] = x
	s.n++
}

// rebuild drops the sends for which keep is false and resizes the table.
func (s *sendShard) rebuild(keep func(send) bool) {
	old := s.slots
	n := 0
	for i := range old {
		if old[i].token != 0 && !keep(old[i]) {
			old[i].token = 0
		} else if old[i].token != 0 {
			n++
		}
	}
	s.slots = make([]send, (n+8)*100/65)
	s.n = 0
	for _, x := range old {
		if x.token != 0 {
			s.put(x)
		}
	}
}

// remove empties slot i and moves up the sends that had to go behind it.
func (s *sendShard) remove(i int) {
	s.n--
	for j := s.next(i); s.slots[j].token != 0; j = s.next(j) {
		h := s.home(s.slots[j].token)
		// The send at j may move to i, unless its home is between i and j.
		stays := i < h && h <= j
		if j < i {
			stays = i < h || h <= j
		}
		if !stays {
			s.slots[i] = s.slots[j]
			i = j
		}
	}
	s.slots[i] = send{}
}
