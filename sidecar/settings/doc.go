// Package settings is all on which decisions depend: the configuration, a panel's files and
// the changes of operators, compiled into one value that never changes. It owns no state. It
// asks packages config, limit and identity. It tells nobody; package live has the value in force.
package settings
