// Package install puts Sluice into Exim's configuration, and takes it out again. It owns the
// files and blocks that it has put in, of which it keeps a list with checksums (the manifest),
// and never changes anything else. It asks Exim whether the result loads and asks Sluice, before
// any of it is put in place where the layout allows that, and puts everything back if not. It
// tells operators what it has done, and which line of theirs is in the way.
package install
