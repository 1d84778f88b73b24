// Package cluster tells the other nodes who sends here, and has what they tell. It owns the
// last report of each node about each subject. It asks the Board to carry reports, and whoever
// counts by author for this node's own. It tells attribution and deferfail what other nodes
// have counted.
package cluster
