# shellcheck shell=bash
# Makes the Debian package; `build` reads this file. Only Debian's own tools are needed: dpkg-deb and dpkg-shlibdeps.

# deb FOLDER VERSION: packages the unpacked tarball in FOLDER.
deb() {
    local from=$1 version=$2-1 arch root doc shell file
    arch=$(dpkg --print-architecture)
    root=$dist/work/deb
    doc=$root/usr/share/doc/blocksd
    mkdir -p "$root/DEBIAN" "$root/usr/lib/systemd/system" "$root/usr/share/man/man1" "$doc"

    install -D -m 0755 "$from/blocksd" "$root/usr/bin/blocksd"
    install -D -m 0644 "$from/systemd/blocksd.toml" "$root/etc/blocksd.toml"
    for file in blocksd.service blocksd.socket; do
        # What Debian installs is in /usr/bin.
        sed 's|/usr/local/bin/|/usr/bin/|' "$from/systemd/$file" >"$root/usr/lib/systemd/system/$file"
    done
    cp "$from"/man/*.1 "$root/usr/share/man/man1"
    install -D -m 0644 "$from/completions/blocksd.bash" "$root/usr/share/bash-completion/completions/blocksd"
    install -D -m 0644 "$from/completions/blocksd.zsh" "$root/usr/share/zsh/vendor-completions/_blocksd"
    install -D -m 0644 "$from/completions/blocksd.fish" "$root/usr/share/fish/vendor_completions.d/blocksd.fish"
    cp "$from/CHANGELOG.md" "$doc/changelog"
    cp "$from/THIRD-PARTY.txt" "$doc/third-party.txt"
    cp "$from/blocksd.cdx.json" "$packaging/copyright" "$doc"
    {
        printf 'blocksd (%s) unstable; urgency=medium\n\n  * Version %s: see changelog.gz.\n\n' "$version" "$2"
        printf ' -- %s  %s\n' "$(maintainer)" "$(date --rfc-email --date "@$SOURCE_DATE_EPOCH")"
    } >"$doc/changelog.Debian"
    find "$root/usr/share/man" "$doc" -type f \( -name '*.1' -o -name 'changelog*' -o -name '*.txt' \) \
        -exec gzip -9 --no-name {} +

    for file in postinst prerm postrm; do
        install -m 0755 "$packaging/$file" "$root/DEBIAN"
    done
    echo /etc/blocksd.toml >"$root/DEBIAN/conffiles"
    (cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
    control "$root" "$version" "$arch" >"$root/DEBIAN/control"
    chmod -R u=rwX,go=rX "$root"
    settle "$root"
    dpkg-deb --root-owner-group -Zxz --build "$root" "$dist/blocksd_${version}_$arch.deb"
}

# maintainer: prints who makes the package, as Debian's tools are told; or who made the commit.
maintainer() {
    if [ -n "${DEBEMAIL-}" ]; then
        echo "${DEBFULLNAME:-blocksd} <$DEBEMAIL>"
    else
        git log -1 --format='%cn <%ce>'
    fi
}

# control FOLDER VERSION ARCH: prints the description of the package.
control() {
    cat <<END
Package: blocksd
Version: $2
Architecture: $3
Maintainer: $(maintainer)
Installed-Size: $(du --summarize --apparent-size --block-size=1024 --exclude=DEBIAN "$1" | cut -f 1)
Depends: $(libraries "$1/usr/bin/blocksd")
Pre-Depends: init-system-helpers (>= 1.54~)
Section: net
Priority: optional
Description: daemon that records framed telemetry from many devices
 It receives messages from devices over TCP, TLS, Unix sockets, serial lines
 and standard input, in any of its framings. It records every message in
 crash-safe MCAP files, acknowledges messages that are on the disk, prints
 messages as text, JSON or hex, and reports every fault.
END
}

# libraries PROGRAM: prints the packages with the shared libraries of a program.
libraries() {
    local folder
    folder=$(mktemp -d)
    mkdir "$folder/debian"
    printf 'Source: blocksd\n\nPackage: blocksd\nArchitecture: any\n' >"$folder/debian/control"
    (cd "$folder" && dpkg-shlibdeps -O "$1" 2>/dev/null) | sed -n 's/^shlibs:Depends=//p'
    rm -r "$folder"
}
