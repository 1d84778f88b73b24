// Package envelope is addresses of the SMTP envelope, and the tokens by which sends to
// them are told apart. It owns nothing. It asks nobody. It tells whoever calls whether
// two spellings are one address, and under which token a send is charged.
package envelope
