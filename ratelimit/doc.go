// Package ratelimit counts sends of named subjects in sliding windows, and charges
// several subjects at once, all or nothing. It owns the Ledger, the counts of one
// process in memory; package journal makes them survive a crash, package redisstore
// shares them between nodes. It asks nobody: even the time is an argument. It tells
// whoever keeps a record (Options.Record) each change, from which the same Ledger can
// be made again.
//
// It knows nothing of mail: a subject is a name, a send is a token.
//
// # Windows
//
// A window of length w is cut into buckets of ceil(w/60) microseconds. A bucket counts
// until its end has left the window, so up to 61 buckets count at a time and a send may
// count for a sixtieth of the window too long, never too short. (Counting in fixed hours,
// as other limiters do, lets twice the limit pass around the full hour.)
//
// When a subject that is already counted gets a limit with a longer window, the new
// window starts with the counts of a shorter one, if the longer one's bucket width is a
// multiple of the shorter one's.
package ratelimit
