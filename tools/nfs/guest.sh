#!/bin/bash
# Inside the guest: one NFS server, two clients in namespaces of their own, and the workloads between them.
#   guest.sh WORK REPOSITORY PYTHON SECONDS SEED VERSION…
# Writes WORK/tally-*.json and WORK/log. A client has its own network, host name, mounts and process ids.
set -u
work=$1 repository=$2 python=$3 seconds=$4 seed=$5
shift 5
exec >"$work/log" 2>&1 </dev/null
export PYTHONPATH=$repository PYTHONDONTWRITEBYTECODE=1 PATH=/usr/sbin:/sbin:$PATH HOME=/root
server=10.0.0.254

die() { echo "guest: $*"; exit 1; }

start_server() {
    mount -t tmpfs none /mnt && mount -t tmpfs none /run && mount -t tmpfs none /var/lib/nfs || die "no tmpfs"
    mkdir -p /mnt/srv /mnt/out /mnt/c /run/rpcbind /var/lib/nfs/sm /var/lib/nfs/v4recovery /var/lib/nfs/rpc_pipefs
    touch /var/lib/nfs/etab /var/lib/nfs/rmtab
    for module in loop ext4 nfsd nfs nfsv3 nfsv4 veth bridge; do modprobe $module || die "no module $module"; done
    truncate -s 1G /mnt/disk && mkfs.ext4 -q -F /mnt/disk && mount -o loop /mnt/disk /mnt/srv || die "no disk"
    mount -t nfsd nfsd /proc/fs/nfsd
    ip link set lo up
    ip link add br0 type bridge && ip addr add $server/24 dev br0 && ip link set br0 up || die "no bridge"
    rpcbind -w || die "no rpcbind"
    exportfs -o rw,no_root_squash,insecure,async,no_subtree_check,fsid=0 10.0.0.0/24:/mnt/srv || die "no export"
    rpc.nfsd 4 && rpc.mountd || die "no server"
}

start_client() {  # number
    unshare -n -u -m -p --fork --mount-proc --propagation private \
        sh -c "hostname cl$1; sleep 100000" &
    for _ in $(seq 100); do
        client[$1]=$(pgrep -P $! | head -1)
        [ -n "${client[$1]}" ] && [ "$(in_client $1 hostname 2>/dev/null)" = cl$1 ] && break
        sleep 0.1
    done
    ip link add veth$1 type veth peer name eth0 netns "${client[$1]}" || die "no veth"
    ip link set veth$1 master br0 up
    in_client $1 ip link set lo up
    in_client $1 ip addr add 10.0.0.$1/24 dev eth0
    in_client $1 ip link set eth0 up
}

in_client() { local number=$1; shift; nsenter -t "${client[$number]}" -n -u -m -p -- "$@"; }

mount_client() {  # number version
    case $2 in
        3) in_client $1 mount -t nfs -o vers=3,nolock $server:/mnt/srv /mnt/c ;;
        *) in_client $1 mount -t nfs4 -o vers=$2 $server:/ /mnt/c ;;
    esac || die "client $1 cannot mount version $2"
}

workload() {  # kind version
    local label=v$2 out=/mnt/out/v$2-$1 store=v$2-$1
    mkdir -p $out
    echo "guest: $label $1 begins at $(cut -d' ' -f1 /proc/uptime) s"
    for number in 1 2; do
        in_client $number env TRACKER_CACHE=$out/cache$number \
            sh -c "cd $repository && exec $python -m tools.nfs.client $1 cl$number /mnt/c/$store $out $seconds $seed" &
        pids[$number]=$!
    done
    wait ${pids[1]} ${pids[2]}
    for number in 1 2; do in_client $number umount /mnt/c; mount_client $number $2; done
    (cd $repository && $python -m tools.nfs.judge $1 $label /mnt/srv/$store $out) >"$work/tally-$label-$1.json"
}

declare -A client pids
start_server
start_client 1
start_client 2
for version in "$@"; do
    for number in 1 2; do mount_client $number $version; done
    in_client 1 grep ' /mnt/c ' /proc/mounts
    if [ $version != 3 ]; then grep -h name /proc/fs/nfsd/clients/*/info; fi
    for kind in write claim claim-killed; do workload $kind $version; done
    in_client 1 sh -c "cd $repository && exec $python -m tracker doctor --json /mnt/c" >"$work/doctor-v$version.json"
    for number in 1 2; do in_client $number umount /mnt/c; done
done
touch "$work/ended"
