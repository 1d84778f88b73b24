package install

import "context"

// A layout is a shape that Exim's configuration has on hosts: what goes where.
type layout interface {
	name() string
	// manifest is where the list of what was put in is kept; our client for Perl is beside it.
	manifest() string
	// ready reports why this layout is not what is here. conf is the configuration file that was
	// named or found, for the layout single.
	ready(ctx context.Context, r *run) (conf string, err error)
	// stage stages all of ours, by whole and block.
	stage(r *run) error
	// generate makes the configuration that the stage would give, for a check; nil where only the
	// panel can.
	generate(ctx context.Context, r *run) ([]byte, error)
	// goLive has Exim use what is in place.
	goLive(ctx context.Context) error
	// siteACL is the ACL that ours asks first, as a name or a macro of the site's; empty for none.
	siteACL(r *run, option string) string

	// What operators are told.
	macrosAre() string  // where the macros of ours are that a site may change
	macrosFile() string // where a site sets them; empty if anywhere
	reload() string     // how Exim's daemon takes up its configuration
	hintSiteACL(option, macro string) string
	hintRouters() string
}

// layoutNamed returns a layout; nil if there is none of that name.
func layoutNamed(name string) layout {
	switch name {
	case "debian":
		return debian{}
	case "single":
		return &single{}
	case "cpanel":
		return cpanel{}
	case "directadmin":
		return directadmin{}
	}
	return nil
}
