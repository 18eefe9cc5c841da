# What the scripts that compare have in common; they set root and name before they read it.
export LC_ALL=C DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1

fail() {
    echo "$name: $1" >&2
    exit 2
}

# install PACKAGE...: by apt, as root.
install() {
    [ $# -gt 0 ] || return 0
    [ "$(id -u)" -eq 0 ] && command -v apt-get > /dev/null \
        || fail "not installed: $* (Debian's names); as root this script installs them where there is apt"
    echo "$name: installing $*" >&2
    mkdir -p "$root/artifacts" || fail "cannot write to $root/artifacts"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get -q update && apt-get -qy install --no-install-recommends "$@"; } > "$root/artifacts/$name-install.log" 2>&1 \
        || fail "apt could not install $*: $(grep -m 1 '^E:' "$root/artifacts/$name-install.log")"
}

# build_and_run PROJECT [ARGUMENT...]
build_and_run() {
    local project=$1
    shift
    command -v dotnet > /dev/null || fail "the .NET 10 SDK is needed to build; get it from https://dot.net/download"
    # Before anything is measured, so that no start of Tutti builds.
    "$root/tutti" version > /dev/null || fail "tutti could not be built"
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    dotnet build "$root/bench/$project" -c Release --disable-build-servers -nologo -v quiet > "$log" 2>&1 \
        || { cat "$log" >&2; fail "bench/$project could not be built; the lines above are its log"; }
    dotnet exec "$root/artifacts/bin/$project/release/$project.dll" "$@"
}
