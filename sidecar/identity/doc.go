// Package identity finds who is charged for a message: the payer. It owns the rules of
// the configuration, and what the files of local domains and of domain owners hold. It
// asks package follow for these files. It tells whoever decides about mail the payer. It
// does not believe what anybody could write into a message, such as the sender's address.
package identity
