package limit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/sidecar/field"
)

// A Layer is where thresholds are set.
type Layer string

// The layers, the lowest first: within a scope, the highest that sets a key wins.
const (
	LayerBuiltIn Layer = "built-in"
	LayerFile    Layer = "file"  // sluice.toml
	LayerPanel   Layer = "panel" // the files of a hosting panel
	LayerLive    Layer = "live"  // sluice set
)

// A Setting is one threshold of one scope, as one layer has it.
type Setting struct {
	Scope string `json:"scope"` // as CanonicalScope returns it
	Key   string `json:"key"`   // as under [limits] in the file
	Value any    `json:"value"` // an int64, a bool, a string or a []string
	Origin
}

// An Origin is who set a threshold, and where.
type Origin struct {
	Layer  Layer     `json:"layer"`
	Place  string    `json:"place,omitempty"`  // FILE:LINE, of a file's or the panel's
	Who    string    `json:"who,omitempty"`    // of a live one, like the rest
	At     time.Time `json:"at,omitzero"`      // when it was set
	Until  time.Time `json:"until,omitzero"`   // when it goes by itself; zero: it stays
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

// placed is the origin of a value of the configuration file.
func Placed(place string) Origin {
	if place == BuiltIn {
		return Origin{Layer: LayerBuiltIn}
	}
	return Origin{Layer: LayerFile, Place: place}
}

// ParseSettings reads what `sluice set` was given: a scope, and KEY=VALUE. Its
// error says what is wrong with each.
func ParseSettings(scope string, assignments []string) (canonical string, all []Setting, err error) {
	if canonical, err = CanonicalScope(scope); err != nil {
		return "", nil, err
	}
	if len(assignments) == 0 {
		return "", nil, fmt.Errorf("nothing to set: name a key and its value, like hourly=2000; keys: %s", strings.Join(Keys(), ", "))
	}
	for _, a := range assignments {
		key, text, found := strings.Cut(a, "=")
		if !found {
			return "", nil, fmt.Errorf("%q must be KEY=VALUE, like hourly=2000", a)
		}
		s, err := parseSetting(canonical, key, text)
		if err != nil {
			return "", nil, err
		}
		if slices.ContainsFunc(all, func(o Setting) bool { return o.Key == key }) {
			return "", nil, fmt.Errorf("%s is given twice", key)
		}
		all = append(all, s)
	}
	return canonical, all, nil
}

// NewSetting makes a setting of a foreign layer, if key and value are good.
func NewSetting(scope, key, text string, o Origin) (Setting, error) {
	s, err := parseSetting(scope, key, text)
	s.Origin = o
	return s, err
}

func parseSetting(scope, key, text string) (Setting, error) {
	var t Thresholds
	value, err := t.Key(key)
	if err != nil {
		return Setting{}, err
	}
	if err := Misplaced(scope, key); err != nil {
		return Setting{}, err
	}
	if text = strings.TrimSpace(text); IsLimit(key) && text == Unlimited {
		text = "0"
	}
	if err := value.Set(value.Typed(text)); err != nil {
		return Setting{}, fmt.Errorf("%s is %s, it must be %w", key, field.QuoteTOML(text), err)
	}
	return Setting{Scope: scope, Key: key, Value: value.Get()}, nil
}

// unlimited is how a limit of 0 is shown, and may be typed.
const Unlimited = "unlimited"

// isLimit tells the keys that have a number of recipients.
func IsLimit(key string) bool { return key == "hourly" || key == "daily" }

// key is field, or says what may have been meant.
func (t *Thresholds) Key(name string) (field.Value, error) {
	if field := t.Field(name); field != nil {
		return field, nil
	}
	hint := "known: " + strings.Join(Keys(), ", ")
	if near := field.Nearest(name, Keys()); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	return nil, fmt.Errorf("unknown key %q; %s", name, hint)
}

// builtIn is the origin of a value that no file sets.
const BuiltIn = "built-in"
