package install

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// manifests are where the layouts keep their list of what was put in.
var manifests = []string{"/etc/sluice/exim.installed", "/etc/exim4/sluice.installed"}

// A manifest is what an earlier run has put in: comment lines with what it was told and what the
// site had instead, and a line "SHA256  PATH" for each file, in order.
type manifest struct {
	layout, way, config string
	site                map[string]string // options as the site has them without us
	order               []string
	sums                map[string]string // checksum of what is ours, by path
}

// nothing is the manifest where nothing was put in.
var nothing = &manifest{}

func (m *manifest) paths() []string { return append([]string(nil), m.order...) }

// readManifest is the manifest of this host.
func readManifest() *manifest {
	for _, file := range manifests {
		if text, err := os.ReadFile(file); err == nil {
			return parseManifest(string(text))
		}
	}
	return nothing
}

func parseManifest(text string) *manifest {
	m := &manifest{site: map[string]string{}, sums: map[string]string{}}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if note, ok := strings.CutPrefix(line, "# "); ok {
			key, value, _ := strings.Cut(note, " ")
			switch key {
			case "layout":
				m.layout = value
			case "way":
				m.way = value
			case "config":
				m.config = value
			case "site":
				name, is, _ := strings.Cut(value, " =")
				m.site[name] = strings.TrimPrefix(is, " ")
			}
		} else if sum, path, ok := strings.Cut(line, "  "); ok {
			m.order = append(m.order, path)
			m.sums[path] = sum
		}
	}
	return m
}

// newManifest lists what is on the stage; nil if nothing of ours is.
func (r *run) newManifest() []byte {
	if r.site == nil {
		return nil // it goes
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# layout %s\n# way %s\n", r.layout.name(), r.way)
	if r.conf != "" {
		fmt.Fprintf(&b, "# config %s\n", r.conf)
	}
	for _, name := range siteOptions {
		fmt.Fprintf(&b, "# site %s = %s\n", name, r.site[name])
	}
	for _, path := range r.stage.paths {
		if f := r.stage.files[path]; !f.gone {
			fmt.Fprintf(&b, "%s  %s\n", sum(f.text), path)
		}
	}
	return b.Bytes()
}
