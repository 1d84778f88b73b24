// Package field is the values of configuration keys: how each is validated, set, printed
// and typed on a command line. It owns nothing. It asks package envelope for the form of
// addresses. It tells whoever sets a value what is allowed, and suggests names that were
// probably meant.
package field
