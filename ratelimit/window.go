package ratelimit

import (
	"fmt"
	"time"
)

// buckets is how many buckets fit into a window; one more may count at a
// time, because the oldest counts until its end has left the window.
const buckets = 60

// A window is the arithmetic of one length of window. Times are Unix
// milliseconds, the resolution of a store's clock; bucket borders are
// multiples of bucket in Unix microseconds.
type window struct {
	length, bucket int64 // microseconds
}

func newWindow(d time.Duration) window { return windowOf(d.Microseconds()) }

func windowOf(us int64) window { return window{us, (us + buckets - 1) / buckets} }

// Valid tells whether a window of length d can be counted.
func Valid(d time.Duration) error {
	if d < MinWindow || d > MaxWindow || d%time.Millisecond != 0 {
		return fmt.Errorf("window %v: must be from %v to %v, in whole milliseconds", d, MinWindow, MaxWindow)
	}
	return nil
}

// index is the bucket into which time ms falls.
func (w window) index(ms int64) int64 { return ms * 1000 / w.bucket }

// oldest is the first bucket that still counts at time ms: the first whose
// end lies after ms - length.
func (w window) oldest(ms int64) int64 { return (ms*1000 - w.length) / w.bucket }

// outlived tells whether a send dated when, which is not after ms, counts no more
// at time ms. One of just now, as nearly all are, costs no division.
func (w window) outlived(when, ms int64) bool { return when < ms && w.index(when) < w.oldest(ms) }

// leaves is the first time at which bucket i no longer counts.
func (w window) leaves(i int64) int64 { return ((i+1)*w.bucket + w.length + 999) / 1000 }

// span is how long a send can count at most, in milliseconds.
func (w window) span() int64 { return (w.length + w.bucket + 999) / 1000 }
