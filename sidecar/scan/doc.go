// Package scan looks for malware in the home of an account with ClamAV. It owns nothing, and
// changes nothing: a person decides what becomes of what was found. It asks clamd if that
// answers, else it runs clamscan, with the rights of the account and no more, because whatever
// reads a tenant's files may be taken over by one of them. It tells which files were found, of
// which only those are believed that exist.
package scan
