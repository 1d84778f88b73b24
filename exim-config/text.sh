# Sluice's installer: the texts of blocks, for layouts that have no folder for
# files of ours.

# options are those of the main section that the way to ask needs.
startup() { sed -n '/^perl_startup/p' "$here/ask-$way.conf" | sed "s|/etc/exim4/sluice.pl|$etc/sluice.pl|"; }

# macros are all of ours. What the main section has of them is left out: the
# site's perl_startup, or startup, loads the client.
macros() {
    say "SLUICE_SITE_PERL = yes"
    sites
    cat "$here/macros.conf" "$here/ask-$way.conf"
}

# sites are the macros that name the site's own ACLs.
sites() {
    for pair in acl_smtp_rcpt:RCPT acl_smtp_data:DATA acl_not_smtp:NOT_SMTP; do
        acl=$(site_acl "${pair%%:*}")
        [ -z "$acl" ] || say ".ifndef SLUICE_SITE_${pair##*:}
SLUICE_SITE_${pair##*:} = $acl
.endif"
    done
}

# first_in begins an ACL of the site: ours comes first, and asks what is left of
# the site's, under a name of its own.
first_in() { # rcpt, data or not_smtp
    say "  accept  endpass"
    say "          acl         = acl_sluice_$1"
    [ "$1" != rcpt ] || [ -z "${acls_in_rcpt:-}" ] || acls
    say "acl_sluice_site_$1:"
}
