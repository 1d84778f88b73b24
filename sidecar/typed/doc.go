// Package typed understands what operators type: scopes, in any form that is meant, and settings. It
// owns nothing. It asks nobody. It tells what was meant, or what is wrong with it.
package typed
