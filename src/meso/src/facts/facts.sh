# Tells what a host is and has, one tab-separated fact a line. Reads only; runs on any POSIX shell, without Python.
# Arguments: ports, names of packages, and paths of files, each list ended by `--`.
LC_ALL=C; PATH=/usr/sbin:/usr/bin:/sbin:/bin; export LC_ALL PATH
say() { f=$1; shift; printf '%s' "$f"; for v in "$@"; do printf '\t%s' "$v"; done; printf '\n'; }
has() { command -v "$1" >/dev/null 2>&1; }

say os "$( ( . /etc/os-release && printf '%s' "$PRETTY_NAME" ) 2>/dev/null || uname -s)"
say kernel "$(uname -r)"
say machine "$(uname -m)"
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then say cgroups 2; else say cgroups 1; fi
say hostname "$(uname -n)"
set_connection=${MESO_SSH_CONNECTION:-}
say connection "$set_connection"
if [ -d /run/systemd/system ]; then say tool systemd; fi
for tool in rpm yum dnf systemd-stdio-bridge sha256sum base64 ss mktemp docker; do if has $tool; then say tool $tool; fi; done
if [ -S /run/docker.sock ] || [ -S /var/run/docker.sock ]; then say tool docker.sock; fi
for directory in /usr /var/lib /var/tmp; do say free "$directory" "$(df -Pk "$directory" 2>/dev/null | awk 'NR == 2 { print $4 }')"; done

listening=$(ss -lntp 2>/dev/null)
while [ "$1" != -- ]; do
    printf '%s\n' "$listening" | awk -v port="$1" '$4 ~ ":" port "$" { print "port\t" port "\t" $6 }'
    shift
done; shift
for pid in $(printf '%s\n' "$listening" | grep -o 'pid=[0-9]*' | cut -d= -f2 | sort -u); do
    say process "$pid" "$(cat "/proc/$pid/comm" 2>/dev/null)" "$(tr '\n' ' ' <"/proc/$pid/cgroup" 2>/dev/null)"
done

while [ "$1" != -- ]; do
    version=$(rpm -q --qf '%{VERSION}-%{RELEASE}\t%{INSTALLTIME}' "$1" 2>/dev/null) && say package "$1" "$version"
    shift
done; shift
while [ "$1" != -- ]; do
    if [ -f "$1" ]; then say file "$1" "$(stat -c '%a' "$1")" "$(stat -c '%U' "$1")" "$(stat -c '%.Y' "$1")" "$(sha256sum <"$1" | cut -d' ' -f1)"
    elif [ -e "$1" ]; then say odd "$1"; fi
    shift
done
say end
