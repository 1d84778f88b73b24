package eximconfig

import "embed"

// Files are what the installer puts into Exim's configuration.
//
//go:embed *.conf sluice.pl
var Files embed.FS
