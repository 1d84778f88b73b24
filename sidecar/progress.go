package sidecar

import (
	"fmt"
	"time"
)

// LogProgress is how far a log of the mail server was read.
type LogProgress struct {
	Key     string     `json:"key"`     // of the configuration, that names it: exim.mainlog or postfix.log
	File    string     `json:"file"`    // the one of the log's that is read now
	Read    int64      `json:"read"`    // bytes
	Size    int64      `json:"size"`    // bytes
	Last    time.Time  `json:"last"`    // time of the last line read
	Trouble string     `json:"trouble"` // why it cannot be read; empty if it can
	Lost    *time.Time `json:"lost"`    // when a part of it was last found missing; null if none was since the start
}

// LostPart says what it means that a part of the log was missing. Lost must not be nil.
func (l *LogProgress) LostPart() string {
	return fmt.Sprintf("at %s a part of the log that %s names was missing: outcomes in it are not counted, nor what passed unasked",
		DateTime(*l.Lost), l.Key)
}
