// Package cluster exchanges reports of who sends between the nodes. It owns the last report of each
// other node about each subject. It asks the Board, over which reports are published, and whoever
// counts by author for this node's own reports. It tells attribution and deferfail what other nodes
// have counted.
package cluster
