#!/bin/bash
# Installs the libraries of the build: with apt where it may (root, or sudo without a password), else the
# same Debian packages unpacked into PREFIX, which needs no root.
#
#   tools/deps.sh [PREFIX]      PREFIX defaults to build/deps
#   DEPS_LOCAL=1                unpacks into PREFIX even where apt may install
#
# PREFIX then holds usr/include, usr/lib/x86_64-linux-gnu, usr/bin/mpirun and usr/share/datasets, with no link that leads
# out of it: copied to another x86-64 machine, the build there needs no network.
set -u
export LC_ALL=C

NEEDED=(doctest-dev libstb-dev nlohmann-json3-dev libcli11-dev zlib1g-dev)
# The build works without: slower on a CPU, no default data, one process only, JPEG decoded slower.
OPTIONAL=(libdnnl-dev dataset-fashion-mnist libopenmpi-dev openmpi-bin libjpeg62-turbo-dev)
# What those load at run time. Not libgomp or libstdc++: every g++ brings its own, and an older one here
# would be found before it. (oneDNN's package is linked against OpenCL.)
RUNTIME=(libstb0 zlib1g)
RUNTIME_OPTIONAL=(libdnnl2 ocl-icd-libopencl1 libopenmpi3 openmpi-common libhwloc15 libpmix2 libmunge2 libevent-core-2.1-7
    libevent-pthreads-2.1-7 libjpeg62-turbo)

PREFIX=${1:-build/deps}
LOG=
WORK=

say() { echo "deps: $*"; }
fail() {
    echo "deps: $*" >&2
    exit 1
}
cleanup() { [ -z "$WORK" ] || rm -rf "$WORK"; }
trap cleanup EXIT
trap 'exit 130' INT TERM

# What apt complained about, for a message of one line: a failed download explains what follows from it.
reason() {
    local r
    r=$(grep -h '^W: Failed to fetch' "$LOG" | tail -n1)
    r=${r:-$(grep -h '^E:' "$LOG" | tail -n1)}
    r=${r:-see $LOG}
    echo "${r#[EW]: }"
}

# ---- apt, as root ---------------------------------------------------------------------------------------
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
may_install() { [ "$(id -u)" = 0 ] || { command -v sudo && sudo -n true; } >/dev/null 2>&1; }
installed() { [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null | cut -c1-2)" = ii ]; }
apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >>"$LOG" 2>&1
}

install_with_apt() {
    local missing=() p known
    for p in "${NEEDED[@]}" "${OPTIONAL[@]}"; do installed "$p" || missing+=("$p"); done
    if [ ${#missing[@]} = 0 ]; then
        say "all packages are installed"
        return 0
    fi
    say "installing with apt: ${missing[*]}"
    # Lists are absent in most container images, and may be too old to download by: one refresh settles both.
    if ! ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1 || ! apt_install "${missing[@]}"; then
        say "refreshing apt's lists"
        as_root apt-get update -q >>"$LOG" 2>&1
        known=()
        for p in "${missing[@]}"; do
            if apt-cache show "$p" >/dev/null 2>&1; then
                known+=("$p")
            elif [[ " ${OPTIONAL[*]} " == *" $p "* ]]; then
                say "skipping $p: this distribution has none"
            else
                echo "E: this distribution has no package $p" >>"$LOG"
                return 1
            fi
        done
        [ ${#known[@]} = 0 ] || apt_install "${known[@]}" || return 1
    fi
    say "installed"
}

# ---- the same packages without root ---------------------------------------------------------------------
# apt with its own lists and cache below WORK; sources, keys and the system's choice of mirror stay.
private_apt() {
    "$1" -q -o Dir::State="$WORK/state" -o Dir::State::lists="$WORK/state/lists" -o Dir::Cache="$WORK/cache" \
        -o Dir::State::status=/var/lib/dpkg/status -o Dir::Log="$WORK" -o Debug::NoLocking=1 \
        -o APT::Sandbox::User=root -o APT::Update::Post-Invoke-Success::= -o Acquire::Languages=none "${@:2}"
}

# Links below DIR that name an absolute path are made to name the same file within DIR.
relink() {
    local dir=$1 link to
    while IFS= read -r link; do
        to=$(readlink "$link")
        [[ $to == /* ]] || continue
        [[ $to == /lib/* ]] && to=/usr$to
        ln -sfn "$(realpath -s --relative-to="$(dirname "$link")" "$dir$to")" "$link"
    done < <(find "$dir" -type l)
}

# Open MPI below USR is told where it lies by a script named mpirun. Without the libraries of InfiniBand and the like, which
# a machine that has such a network has too, it uses TCP and shared memory.
wrap_mpirun() {
    local usr=$1
    [ -e "$usr/bin/mpirun.openmpi" ] || return 0
    cat >"$usr/bin/mpirun" <<'END'
#!/bin/bash
# mpirun of the Open MPI that is unpacked around this script.
usr=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
lib=$usr/lib/x86_64-linux-gnu
export OPAL_PREFIX=$usr PMIX_INSTALL_PREFIX=$lib/pmix2 LD_LIBRARY_PATH=$lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
# It asks for ssh even where no other machine is meant.
command -v ssh >/dev/null || command -v rsh >/dev/null || export OMPI_MCA_plm=${OMPI_MCA_plm:-isolated}
export OMPI_MCA_mca_base_component_show_load_errors=0 PMIX_MCA_pcompress_base_silence_warning=1
exec "$usr/bin/mpirun.openmpi" "$@"
END
    chmod +x "$usr/bin/mpirun"
}

unpack_locally() {
    local p deb root names=()
    for p in apt-get dpkg-deb; do
        if ! command -v $p >/dev/null; then
            echo "E: there is no $p here" >>"$LOG"
            return 1
        fi
    done
    mkdir -p "$WORK"/{state/lists/partial,cache/archives/partial,debs,root}
    say "downloading the packages into $PREFIX (no root needed)"
    # A broken third-party source must not stop us: what counts is whether the packages arrive.
    private_apt apt-get update >>"$LOG" 2>&1
    for p in "${NEEDED[@]}" "${RUNTIME[@]}" "${OPTIONAL[@]}" "${RUNTIME_OPTIONAL[@]}"; do
        if private_apt apt-cache show "$p" >/dev/null 2>&1; then
            names+=("$p")
        elif [[ " ${OPTIONAL[*]} ${RUNTIME_OPTIONAL[*]} " == *" $p "* ]]; then
            say "skipping $p: this distribution has none"
        else
            echo "E: apt's sources have no package $p" >>"$LOG"
            return 1
        fi
    done
    (cd "$WORK/debs" && private_apt apt-get download "${names[@]}") >>"$LOG" 2>&1 || return 1
    root=$WORK/root
    for deb in "$WORK"/debs/*.deb; do
        dpkg-deb -x "$deb" "$root" 2>>"$LOG" || {
            echo "E: cannot unpack $(basename "$deb")" >>"$LOG"
            return 1
        }
    done
    # /lib is a link to /usr/lib on an installed system; some packages still unpack there.
    if [ -d "$root/lib" ]; then cp -a "$root/lib/." "$root/usr/lib/" && rm -rf "$root/lib"; fi
    relink "$root"
    rm -rf "$root"/usr/share/{doc,doc-base,man,lintian}
    wrap_mpirun "$root/usr"
    # Headers last: the Makefile looks for them, so an interrupted copy is seen as missing and done again.
    for p in share bin lib include; do
        [ -d "$root/usr/$p" ] || continue
        mkdir -p "$PREFIX/usr/$p" && cp -a "$root/usr/$p/." "$PREFIX/usr/$p/" || return 1
    done
    say "unpacked ${#names[@]} packages into $PREFIX"
}

# ---------------------------------------------------------------------------------------------------------
mkdir -p "$PREFIX" 2>/dev/null && [ -w "$PREFIX" ] || fail "cannot write $PREFIX: give another with PREFIX=DIR"
PREFIX=$(realpath "$PREFIX")
LOG=$PREFIX/deps.log
WORK=$PREFIX/.part
rm -rf "$WORK"
: >"$LOG"

if [ -z "${DEPS_LOCAL:-}" ]; then
    if may_install; then
        if install_with_apt; then
            rmdir "$PREFIX" 2>/dev/null
            exit 0
        fi
        say "apt failed: $(reason)"
    else
        say "no root and no sudo without a password"
    fi
fi
if unpack_locally; then
    exit 0
fi
fail "cannot get the libraries: $(reason). Install ${NEEDED[*]} ${OPTIONAL[*]}, or copy a build/deps" \
    "made on another machine here, or pass PREFIX=DIR to make"
