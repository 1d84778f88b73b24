package install

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"sluice/sidecar/exim"
)

// publish puts the stage in place, and has Exim use it. If Exim then does not load it,
// everything is put back.
func (r *run) publish(ctx context.Context) error {
	r.config = ""
	if err := r.putAll(); err != nil {
		if back := r.stage.putBack(); back != nil {
			return problemf("%v\nand going back failed, see to Exim's configuration now: %v", err, back)
		}
		return err
	}
	if err := r.layout.goLive(ctx); err != nil {
		return r.failLive(ctx, "Exim's configuration could not be made", err)
	}
	if err := r.load(ctx, r.installed()); err != nil {
		return r.failLive(ctx, "Exim does not load its configuration", err)
	}
	return nil
}

// putAll puts all files of the stage in place, and the manifest that lists them.
func (r *run) putAll() error {
	list := r.layout.manifest()
	r.stage.kept = append(r.stage.kept, kept{list, current(list)})
	for _, path := range r.stage.paths {
		if err := r.put(path); err != nil {
			return err
		}
	}
	if text := r.newManifest(); text != nil {
		return (&staged{text: text, mode: 0o644}).write(list)
	}
	return os.Remove(list)
}

// failLive undoes what is in place, and has Exim use what was there.
func (r *run) failLive(ctx context.Context, what string, why error) error {
	ctx = context.WithoutCancel(ctx) // an operator's ^C leaves nothing half done
	explained := r.explain(why)
	back := r.stage.putBack()
	if back == nil {
		back = r.layout.goLive(ctx)
	}
	if back != nil {
		return problemf("%s:\n%s\nand going back failed, see to Exim's configuration now: %v", what, explained, back)
	}
	return problemf("%s:\n%s\neverything is as it was before; Exim was not touched", what, explained)
}

// tokenFile has the token of the way tcp: who knows it may ask.
const tokenFile = "/etc/sluice/token"

// makeToken makes the token of the way tcp, for Exim and root only.
func (r *run) makeToken(ctx context.Context) error {
	if info, err := os.Stat(tokenFile); err == nil && info.Size() > 0 {
		return nil
	}
	gid, err := eximGroup(ctx, r.installed())
	if err != nil {
		return fmt.Errorf("make %s: %w", tokenFile, err)
	}
	var token [16]byte
	rand.Read(token[:])
	err = os.MkdirAll(filepath.Dir(tokenFile), 0o755)
	if err == nil {
		err = (&staged{text: []byte(hex.EncodeToString(token[:]) + "\n"), mode: 0o640, gid: gid}).write(tokenFile)
	}
	if err != nil {
		return fmt.Errorf("make %s: %w", tokenFile, err)
	}
	r.printf("%s made; sluice reads it when it starts", tokenFile)
	return nil
}

// eximGroup is the number of the group that Exim runs in.
func eximGroup(ctx context.Context, e exim.Exim) (int, error) {
	name := e.Option(ctx, "exim_group")
	if g, err := user.LookupGroup(name); err == nil {
		name = g.Gid
	}
	gid, err := strconv.Atoi(name)
	if err != nil {
		return 0, problemf("Exim's group %q is not a group of this host", name)
	}
	return gid, nil
}
