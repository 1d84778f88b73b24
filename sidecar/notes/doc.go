// Package notes keeps small values across crashes: a Store those of one node, a Board those that
// all nodes see, and a Map values of one type by name. A Map owns the notes whose keys begin with
// its prefix. It asks the journal of the counts to write them. It tells whoever made it of
// notes that cannot be read.
package notes
