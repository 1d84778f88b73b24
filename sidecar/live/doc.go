// Package live puts settings in force, and in place of others: the configuration, a panel's
// files and the changes of operators. It owns the settings in force, and since when each
// limit counts. It asks packages settings and history, and the board on which all nodes keep
// their changes. It tells whoever has asked by OnSwap when other settings have come into force.
package live
