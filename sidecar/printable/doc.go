// Package printable is how Sluice shows things to people: texts that others have chosen, so
// that they command no terminal, commands to copy into a shell, numbers, times and spans. It
// owns nothing. It asks nobody. It tells whoever prints what may stand on a terminal, in a
// log, a notice or a page.
package printable
