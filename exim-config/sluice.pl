# Asks Sluice over its unix socket, for Exim's embedded Perl.
#
#   ${perl{sluice_ask}{/run/sluice/policy.sock}{300}{request}}
#
# returns the reply as it came, up to and with the empty line that ends it, or
# "" for "no answer". It never dies and never waits longer than the deadline.
#
# Exim has one perl_startup only. Where a site uses it already, its own file
# loads this one too:   do '/etc/exim4/sluice.pl';
#
# What must not be done here, each of it seen to lose mail or to kill Exim:
#
#   * No alarm and no $SIG{ALRM}. Perl leaves SIG_DFL in place of Exim's own
#     handler, and Exim's next alarm kills the process without a word.
#   * No connection at load time. Exim forks, and two processes that read from
#     one socket get each other's answers.
#   * No descriptor 0, 1 or 2. They may be free in a process of Exim's, which
#     would then write SMTP into our socket, or worse, we into a message.
#   * No write to a descriptor that is not known to be ours (facts of life
#     about ${readsocket} on a unix path: it does just that).

package Sluice;

use strict;
use warnings;

use Errno qw(EAGAIN EINTR);
use Socket qw(AF_UNIX SOCK_STREAM SOCK_NONBLOCK SOCK_CLOEXEC MSG_NOSIGNAL pack_sockaddr_un);
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my $PAUSE       = 5;                  # seconds without questions after a timeout
my $MAX_REQUEST = 4 * 1024 * 1024;    # bytes; Sluice answers none that is longer
my $MAX_REPLY   = 64 * 1024;          # bytes

my ($sock, $inode, $where);           # the kept connection, which socket it is, its path
my $pid         = 0;                  # whose connection it is
my $quiet_until = 0;                  # monotonic seconds; after a timeout
my @strangers;                        # handles whose descriptor is not ours to close

# ask is the one way in. Exim's variables must not notice it: $@, $! and $_ may
# be in use in the Perl of the site.
sub main::sluice_ask {
    my ($path, $ms, $request) = @_;
    local ($@, $!, $_);
    local @SIG{qw(__DIE__ __WARN__)} = (undef, sub { });
    my $reply = eval { ask($path, $ms / 1000, $request) };
    return $reply if defined $reply;
    drop();
    return '';
}

# ask returns undef for "no answer"; the connection is then of no use any more,
# for the answer may still come and must not be taken for that to another question.
sub ask {
    my ($path, $seconds, $request) = @_;
    return if !length $request || length $request > $MAX_REQUEST;
    my $now = clock_gettime(CLOCK_MONOTONIC);
    return if $now < $quiet_until;
    my $end = $now + $seconds;

    # A kept connection may have been closed by a restart, before or while we
    # write. To ask twice is safe: Sluice charges a message once.
    if (kept($path)) {
        my $reply = exchange($request, $end);
        return $reply if defined $reply;
        return if clock_gettime(CLOCK_MONOTONIC) >= $end;
        drop();
    }
    return if !dial($path, $end);
    return exchange($request, $end);
}

# kept tells whether there is a connection to ask on. One that is readable now
# was closed, or has said something that nobody asked for.
sub kept {
    my ($path) = @_;
    return 0 if !$sock;
    return 1 if $pid == $$ && $where eq $path && ours() && !ready(0, 0);
    drop();
    return 0;
}

# ours tells whether the descriptor still is the socket that we opened.
sub ours {
    my (undef, $i) = stat $sock;
    return defined $i && $i == $inode;
}

# drop closes the connection, in a forked child only the child's descriptor.
sub drop {
    return if !$sock;
    push @strangers, $sock if !ours();
    undef $sock;
}

# dial connects before $end. EAGAIN means that the server's backlog is full.
sub dial {
    my ($path, $end) = @_;
    my $s = unix_socket() or return 0;
    my $to = pack_sockaddr_un($path);
    until (connect $s, $to) {
        return 0 if $! != EAGAIN && $! != EINTR;
        return 0 if late($end);
        select undef, undef, undef, 0.005;
    }
    ($sock, $where, $pid) = ($s, $path, $$);
    (undef, $inode) = stat $s;
    return 1;
}

# unix_socket returns a new socket above the standard descriptors.
sub unix_socket {
    my @low;
    while (1) {
        socket my $s, AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0 or return;
        return $s if fileno $s > 2;
        push @low, $s;
    }
}

# exchange writes the request and reads the reply. A reply is whole when its
# empty line has come and nothing after it. One with another number is the late
# answer to another question.
sub exchange {
    my ($request, $end) = @_;
    for (my $at = 0; $at < length $request;) {
        my $n = send $sock, $at ? substr($request, $at) : $request, MSG_NOSIGNAL;
        if (defined $n) { $at += $n; next }
        return if $! != EAGAIN && $! != EINTR;
        return if !wait_for(1, $end);
    }
    my $reply = '';
    while (wait_for(0, $end)) {
        my $n = sysread $sock, $reply, $MAX_REPLY, length $reply;
        if (!defined $n) { next if $! == EAGAIN || $! == EINTR; return }
        return if !$n || length $reply > $MAX_REPLY || $reply =~ /\0/;
        my $i = index $reply, "\n\n";
        next if $i < 0;
        return if $i + 2 != length $reply || !answers($request, $reply);
        return $reply;
    }
    return;
}

# answers tells whether a reply has the number of the request.
sub answers {
    my ($request, $reply) = @_;
    my ($number) = $request =~ /\A(?:[a-z]+=[^\n]*\n){0,3}?number=(\d+)\n/ or return 1;
    return $reply =~ /\nnumber=$number\n\n\z/;
}

# wait_for waits until the socket can be written or read.
sub wait_for {
    my ($write, $end) = @_;
    until (late($end)) {
        my $n = ready($write, $end - clock_gettime(CLOCK_MONOTONIC));
        return 1 if $n > 0;
        return 0 if $n < 0 && $! != EINTR;
    }
    return 0;
}

# ready returns what select does, for our one descriptor.
sub ready {
    my ($write, $seconds) = @_;
    my $set = '';
    vec($set, fileno $sock, 1) = 1;
    $seconds = 0 if $seconds < 0;
    return $write ? select(undef, $set, undef, $seconds) : select($set, undef, undef, $seconds);
}

# late notes a timeout. A message has many questions and a deadline is for one:
# without the pause a stopped server would cost a deadline per recipient.
sub late {
    my ($end) = @_;
    my $now = clock_gettime(CLOCK_MONOTONIC);
    return 0 if $now < $end;
    $quiet_until = $now + $PAUSE;
    return 1;
}

# loaded is for the installer to see that this file was found.
sub loaded { return "yes" }

1;
