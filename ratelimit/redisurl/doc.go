// Package redisurl parses the URL of a Redis, whole: what it does not know, or what would
// have no effect, is an error, because a misspelt parameter must not turn TLS off. It owns
// nothing and asks nobody. It tells whoever parses what is wrong, never with the password
// in it: what stands where depends on what was mistyped, so that no error quotes a value.
package redisurl
