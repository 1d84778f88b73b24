// Package eximconfig is what Sluice ships into Exim, and its end-to-end tests.
//
//	macros.conf   what a site may change, how Exim asks, which answers it believes
//	acl.conf      RCPT, DATA and sendmail: asks, and says what came back
//	routers.conf  asks again for each recipient at delivery, and holds
//	retry.conf    how long held mail waits
//	debian.conf   puts the ACLs in the place of the site's on Debian
//	sluice.pl     the client, for Exim's embedded Perl
//	install       puts these files in and takes them out
//
// There is no Go in it but the tests. They put these very files, by this very
// installer, into a private copy of Debian's configuration and run the real
// Exim on it: see host_test.go.
package eximconfig
