// Package senders is who sends, as commands show it: reports of the authors of a domain, and
// how those of several nodes are joined. It owns no state. It asks nobody. It tells nobody.
package senders
