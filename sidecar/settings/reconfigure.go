package settings

import (
	"time"
)

// A ConfigStatus is how the configuration file stands.
type ConfigStatus struct {
	File    string    `json:"file"` // empty: there is none
	Hash    string    `json:"hash"` // as in Config.Hash, of the file as it was read
	Read    time.Time `json:"read"`
	Trouble string    `json:"trouble"` // why the file as it is now is not in force; empty if it is
	Restart []string  `json:"restart"` // keys whose values in the file come into force with a restart
	Panel   []string  `json:"panel"`   // lines of the panel's files that were skipped, as "FILE:LINE: why"
}
