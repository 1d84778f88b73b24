// Package panel reads what hosting panels write about mail limits, so that the panel that
// an operator already has is also the user interface of Sluice's limits: cPanel with WHM,
// DirectAdmin, and CloudLinux's ve.cfg. It owns the content of these files as last read,
// and writes nothing. It asks the file system. It tells the caller of Read and Run, in a
// settings.Panel: a line that cannot be parsed is named in its Trouble and skipped, all
// others are in force.
package panel
