package sidecar

import (
	"fmt"
	"log/slog"
	"strings"
)

// A Culprit is the author of most of what is counted of a subject: of its sends, or of those
// that went wrong. Without an author's key it is not known who that is.
type Culprit struct {
	Author Author
	Count  int64 // of Of, about
	Of     int64
}

// Named reports whether it is known who it is, and he has so much that it is worth saying: a
// tenth.
func (c Culprit) Named() bool { return c.Author.Key != "" && c.Count > 0 && c.Count*10 >= c.Of }

// String words it for a refusal; it is empty if nobody is named.
func (c Culprit) String() string {
	switch {
	case !c.Named():
		return ""
	case c.Count*2 < c.Of:
		return fmt.Sprintf("most of all %s, %d of %d", c.Author.Key, c.Count, c.Of)
	}
	return fmt.Sprintf("mostly %s, %d of %d", c.Author.Key, c.Count, c.Of)
}

// IsMailboxOf reports whether the culprit is a mailbox of a domain.
func (c Culprit) IsMailboxOf(domain string) bool {
	return domain != "" && strings.IndexByte(c.Author.Key, ':') < 0 && strings.HasSuffix(c.Author.Key, "@"+domain)
}

// Attrs are what an event says of the culprit; none if nobody is named.
func (c Culprit) Attrs() []slog.Attr {
	if !c.Named() {
		return nil
	}
	return []slog.Attr{slog.String("culprit", c.Author.Key), slog.String("culprit_sends", fmt.Sprintf("%d of %d", c.Count, c.Of))}
}
