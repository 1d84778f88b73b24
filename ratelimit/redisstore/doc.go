// Package redisstore shares the counts of several nodes in a Redis, and keeps deciding
// while Redis does not answer. It owns the links to the servers, the outbox of what
// Redis must still be given, the usage cache and this node's copy of the board. It asks
// Redis, and the node's own Ledger, which has the sends that this node accepted. It
// tells a Reporter when Redis is lost or back, and Options.Changed which subjects have
// reached a limit or are below it again.
//
// A send that the node's Ledger knows is accepted without asking. Everything else is
// decided by one script call in Redis, by Redis's clock (store.lua). A retry after a lost
// reply, the merge after an outage and the replay to another server are that call again,
// which charges a token once; the last two by force, with the age of the send.
//
// Here a subject is only a name; for where it is counted, see slotOf. On a Redis Cluster
// the subjects of a Take may be on several masters. They are charged one after the
// other, accounts first, and uncharged by token if a later one refuses: a limit is never
// exceeded, but for a round trip a concurrent send may be refused that had room.
//
// link.go makes calls, run.go finds out whether a server decides. degraded.go decides
// while it does not, outbox.go keeps what was decided, merge.go gives it to Redis
// afterwards. catchup.go brings a new server up to date, to which replay.go gives everything. The nodes exchange uses and
// resets (usage.go, publish.go) by the board (board.go).
package redisstore
