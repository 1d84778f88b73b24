// Package eximconfig is what Sluice ships into Exim, and its end-to-end tests.
//
//	macros.conf   what a site may change, what Exim asks, which answers it believes
//	acl.conf      RCPT, DATA and sendmail: asks, and says what came back
//	routers.conf  asks again for each recipient at delivery, and holds
//	retry.conf    how long held mail waits
//	ask-*.conf    the three ways to ask: embedded Perl, TCP, a process
//	sluice.pl     the client, for Exim's embedded Perl
//	debian.conf   puts the ACLs in the place of the site's on Debian
//
// They are built into sluice, which puts them in and takes them out: package install. The
// tests here put these very files, by that very installer, into a private copy of Debian's
// configuration and run the real Exim on it: see host_test.go.
package eximconfig
