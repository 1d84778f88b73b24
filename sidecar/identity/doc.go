// Package identity finds who is charged for a message: the payer. It owns the rules of
// the configuration. It asks package domains which domains are local, and whose each is. It
// tells whoever decides about mail the payer. It does not believe what anybody could write
// into a message, such as the sender's address.
package identity
