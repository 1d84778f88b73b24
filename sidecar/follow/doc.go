// Package follow keeps a value that files hold up to date. It owns the value and how the
// files looked when they were read. It asks the file system, whenever its Refresh is
// called. It tells whoever calls Get the value that was read last.
package follow
