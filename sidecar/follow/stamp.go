package follow

import (
	"io/fs"
	"syscall"
)

// A Stamp changes whenever its file does; the zero one is that of a missing file.
type Stamp struct {
	Size            int64
	inode, modified int64
}

// StampOf is the stamp of a file with this FileInfo.
func StampOf(info fs.FileInfo) Stamp {
	s := Stamp{Size: info.Size(), modified: info.ModTime().UnixNano()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode = int64(sys.Ino)
	}
	return s
}
