// Package domains is the files of a host that say which domains are local, and whose each is.
// It owns what was read of them. It asks package follow for them. It tells whoever finds out who
// is charged.
package domains
