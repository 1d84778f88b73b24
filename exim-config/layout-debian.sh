# Sluice's installer: Debian's split configuration.

etc=/etc/exim4
manifest=$etc/sluice.installed
macros_file=$etc/conf.d/main/000_localmacros
macros_are=$etc/conf.d/main/00_sluice_macros
reload="systemctl reload exim4"

ready() {
    command -v update-exim4.conf >/dev/null || die "this is no Debian Exim: update-exim4.conf is missing"
    [ -f $etc/update-exim4.conf.conf ] || die "there is no $etc/update-exim4.conf.conf"
    [ ! -e $etc/exim4.conf ] ||
        die "Exim uses $etc/exim4.conf here, not Debian's conf.d. Use --layout single."
    debian_is_split ||
        die "Debian's configuration is unsplit here (dc_use_split_config in
$etc/update-exim4.conf.conf). Use --layout single."
}

# The names order the files, for update-exim4.conf reads them as ls lists them:
# in main after the site's 000_localmacros and before Debian's 01_, and the
# routers and retry rules before all others.
stage() {
    whole "$here/debian.conf" $etc/conf.d/main/00_sluice_debian &&
        whole "$here/macros.conf" $etc/conf.d/main/00_sluice_macros &&
        whole "$here/ask-$way.conf" $etc/conf.d/main/00_sluice_way &&
        whole "$here/acl.conf" $etc/conf.d/acl/10_sluice &&
        whole "$here/routers.conf" $etc/conf.d/router/01_sluice &&
        whole "$here/retry.conf" $etc/conf.d/retry/10_sluice &&
        { [ "$way" != perl ] || whole "$here/sluice.pl" $etc/sluice.pl; }
}

# generate has update-exim4.conf read a copy of the configuration with the stage
# in it, and files gone that are to go.
generate() {
    rm -rf "$work/confdir"
    cp -a $etc "$work/confdir"
    while read -r path; do
        copy=$work/confdir${path#"$etc"}
        if [ -f "$work/root$path" ]; then cp -p "$work/root$path" "$copy"; else rm -f "$copy"; fi
    done <"$work/paths"
    update-exim4.conf -d "$work/confdir" -o "$1"
}

go_live() { update-exim4.conf; }

hint_site_acl() { # option, macro and value
    say "Remove that line and put into $macros_file:"
    say "    $2"
}

hint_routers() { say "Rename the file in $etc/conf.d/router that sorts before 01_sluice."; }
