// Package overlay is a map that never changes: another one is made of it, which shares with it
// nearly all. It owns nothing. It asks nobody. It tells nobody.
package overlay
