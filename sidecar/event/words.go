package event

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Attr is one attribute as text; empty if the event does not have it.
func (e Event) Attr(key string) string {
	for _, a := range e.Attrs {
		if a.Key == key {
			return text(a.Value)
		}
	}
	return ""
}

// Details are the attributes of an event but for some, and its error, in words: "sent 20/20
// (100%), culprit news@shop.example". Senders have chosen parts of it.
func (e Event) Details(but ...string) string {
	var all []string
	for _, a := range e.Attrs {
		if value := text(a.Value); value != "" && !slices.Contains(but, a.Key) {
			all = append(all, strings.ReplaceAll(a.Key, "_", " ")+" "+value)
		}
	}
	if e.Err != nil {
		all = append(all, e.Err.Error())
	}
	return strings.Join(all, ", ")
}

func text(v slog.Value) string {
	if t, ok := v.Any().(time.Time); ok {
		return t.Local().Format("2006-01-02 15:04:05 -0700")
	}
	return fmt.Sprint(v.Any())
}
