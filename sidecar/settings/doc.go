// Package settings is what is in force now: the configuration, a panel's files and the
// changes of operators, compiled into one value. It owns this value, and since when each
// limit counts. It asks packages config, limit, identity and history, and the board on
// which all nodes keep their changes. It tells whoever has asked by OnSwap when other
// settings have come into force.
package settings
