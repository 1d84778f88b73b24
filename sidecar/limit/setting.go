package limit

import (
	"cmp"
	"fmt"
	"time"
)

// A Layer is where thresholds are set.
type Layer string

// The layers, the lowest first: within a scope, the highest that sets a key wins.
const (
	LayerBuiltIn Layer = "built-in"
	LayerFile    Layer = "file"  // sluice.toml
	LayerExim    Layer = "exim"  // Exim's configuration, of which domains are local and for whom Exim relays
	LayerPanel   Layer = "panel" // the files of a hosting panel
	LayerLive    Layer = "live"  // sluice set
)

// A Setting is one threshold of one scope, as one layer has it.
type Setting struct {
	Scope string `json:"scope"` // as typed.Scope returns it
	Key   string `json:"key"`   // as under [limits] in the file
	Value any    `json:"value"` // an int64, a bool, a string or a []string
	Origin
}

// An Origin says who has set a threshold, and where.
type Origin struct {
	Layer  Layer     `json:"layer"`
	Place  string    `json:"place,omitempty"`  // FILE:LINE, for the layers file and panel
	Who    string    `json:"who,omitempty"`    // this and the rest are for the layer live
	At     time.Time `json:"at,omitzero"`      // when it was set
	Until  time.Time `json:"until,omitzero"`   // when it expires; zero: never
	Why    string    `json:"why,omitempty"`    // in the words of who set it
	Change int64     `json:"change,omitempty"` // its number in the history
}

// String is the origin as refusals, status and explain show it.
func (o Origin) String() string {
	if o.Layer == LayerLive {
		return fmt.Sprintf("sluice set by %s at %s", o.Who, o.At.Format(time.DateTime+" -0700"))
	}
	return cmp.Or(o.Place, string(o.Layer))
}

// IsLimit reports whether a key is a number of sends in a window.
func IsLimit(key string) bool { return key == "hourly" || key == "daily" }
