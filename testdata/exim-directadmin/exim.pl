# Stands in for DirectAdmin's file of this name.
use strict;

sub smtpauth {
    my $password = Exim::expand_string('$auth3');
    return $password eq 'secret' ? 'yes' : 'no';
}

sub check_limits { return 'yes' }

do '/etc/exim.custom.pl' if -e '/etc/exim.custom.pl';

1;
