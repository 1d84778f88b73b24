// Package notes keeps values of one type by name, and across crashes. A Map owns the notes
// whose keys begin with its prefix. It asks the journal of the counts to write them. It
// tells whoever made it of notes that cannot be read.
package notes
