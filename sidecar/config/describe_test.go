package config

import "testing"

// The manual has each key, with what it is and which values it may have, and no other key.
func TestEachKeyIsDescribed(t *testing.T) {
	known := map[string]bool{}
	for _, d := range Describe() {
		known[d.Key] = true
		if d.What == "" || d.Allowed == "" || d.Default == "" {
			t.Errorf("the manual does not say enough: %+v", d)
		}
	}
	for key := range what {
		if !known[key] {
			t.Errorf("there is no key %s", key)
		}
	}
}
