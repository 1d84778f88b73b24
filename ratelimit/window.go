package ratelimit

import "time"

// buckets is how many buckets make up a window. One more may count, because the
// oldest counts until its end has left the window.
const buckets = 60

// A window is the length of a window and of its buckets. Times are Unix
// milliseconds, the resolution of a store's clock; buckets begin at multiples of
// bucket in Unix microseconds.
type window struct {
	length, bucket int64 // microseconds
}

func newWindow(d time.Duration) window { return windowOf(d.Microseconds()) }

func windowOf(us int64) window { return window{us, (us + buckets - 1) / buckets} }

// index is the number of the bucket of time ms.
func (w window) index(ms int64) int64 { return ms * 1000 / w.bucket }

// oldest is the first bucket that counts at time ms: the first that ends after
// ms - length.
func (w window) oldest(ms int64) int64 { return (ms*1000 - w.length) / w.bucket }

// outlived reports whether a send dated when, at most ms, no longer counts at time
// ms. For a send of just now, as most are, it needs no division.
func (w window) outlived(when, ms int64) bool { return when < ms && w.index(when) < w.oldest(ms) }

// leaves is the first time at which bucket i no longer counts.
func (w window) leaves(i int64) int64 { return ((i+1)*w.bucket + w.length + 999) / 1000 }

// span is the longest that a send can count, in milliseconds.
func (w window) span() int64 { return (w.length + w.bucket + 999) / 1000 }
