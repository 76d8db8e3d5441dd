#!/bin/bash
# start_slurm.sh -- bring up a one-node Slurm cluster on this very machine, from
# nothing, without systemd and without cgroups.  Idempotent; must run as root.
#
#   WITH_SACCT=1 ./start_slurm.sh   also installs MariaDB + slurmdbd so that
#                                   `sacct` / `sacctmgr` work (about 20 s more).
#   SLURM_CPUS, SLURM_MEM_MB        what the node claims to have (default: real;
#                                   more than real is fine: config_overrides)
#   SLURM_GPUS                      number of pretend GPUs           (default 2)
#   SLURM_CGROUP=1                  use cgroup v1 under /sys/fs/cgroup if it is there
#                                   and writable: real OUT_OF_MEMORY, no escapees
#   GRID_USER                       ordinary account to create    (default gridci)
#
# Prints timings and, at the very end, READY.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "run me as root" >&2; exit 1; }
[ ! -e /etc/slurm/slurm.conf ] || grep -q 'written by start_slurm.sh' /etc/slurm/slurm.conf ||
    { echo "this host has a Slurm of its own, which is left alone: /etc/slurm/slurm.conf" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
WITH_SACCT=${WITH_SACCT:-0}
GRID_USER=${GRID_USER:-gridci}
HOST=$(hostname -s)
CPUS=${SLURM_CPUS:-$(nproc)}
# Without SlurmdParameters=config_overrides (below) a node that claims more than
# slurmd finds is drained ("Low RealMemory").  10% is left for the rest.
MEM=${SLURM_MEM_MB:-$(awk '/MemTotal/ {printf "%d", $2/1024*0.9}' /proc/meminfo)}
GPUS=${SLURM_GPUS:-2}
# seconds a finished job stays known to squeue/scontrol (Slurm's default is 300);
# set 2 to test a wrapper against jobs that vanish (they go within ~1 minute)
MINAGE=${SLURM_MIN_JOB_AGE:-3600}
STATE=/var/lib/ci-slurm          # controller state, job completion log
RUN=/run/ci-slurm                # pid files, pretend GPU device files
LOG=/var/log/ci-slurm
now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN{printf "%.1f", b-a}'; }
# $1 = pid file, $2 = program; the name is compared, as a stale file's id may be reused
alive() { [ -s "$1" ] && [ "$(cat "/proc/$(cat "$1")/comm" 2>/dev/null)" = "$2" ]; }

# ---------------------------------------------------------------- 1. packages
T0=$(now)
# slurm-wlm = slurmctld + slurmd + slurm-client; no recommends keeps it at ~4 MB.
PKGS="slurm-wlm munge"
[ "$WITH_SACCT" = 1 ] && PKGS="$PKGS slurmdbd slurm-wlm-mysql-plugin mariadb-server"
MISSING=
for p in $PKGS; do
    dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null | grep -qx installed || MISSING="$MISSING $p"
done
if [ -n "$MISSING" ]; then
    # Keep the packages from starting services of their own (matters where there
    # is an init system); leave an existing policy alone.
    POLICY=/usr/sbin/policy-rc.d; MADE=
    if [ ! -e $POLICY ]; then printf '#!/bin/sh\nexit 101\n' >$POLICY; chmod 755 $POLICY; MADE=1; fi
    apt-get update -qq
    # shellcheck disable=SC2086  # a list of words
    apt-get install -y -qq --no-install-recommends $MISSING >/tmp/ci-slurm-apt.log 2>&1 ||
        { tail -30 /tmp/ci-slurm-apt.log >&2; [ -z "$MADE" ] || rm -f $POLICY; exit 1; }
    [ -z "$MADE" ] || rm -f $POLICY
fi
echo "install: $(since "$T0") s"
id -u "$GRID_USER" >/dev/null 2>&1 || useradd -m -s /bin/bash "$GRID_USER"

# ------------------------------------------------------- 2. name and directories
T1=$(now)
# slurmctld refuses to start if its own short host name does not resolve.
getent hosts "$HOST" >/dev/null || echo "127.0.0.1 $HOST" >>/etc/hosts
# /run is often a tmpfs or empty in containers: make it all again every time.
install -d -m 755 -o munge -g munge /run/munge /var/log/munge /var/lib/munge
install -d -m 700 -o munge -g munge /etc/munge
install -d -m 755 -o slurm -g slurm "$STATE" "$RUN" "$LOG" "$STATE/ctld"
install -d -m 755 -o root  -g root  "$STATE/slurmd" /etc/slurm

# ------------------------------------------------------------------ 3. configs
# A gres/gpu entry must name files that exist (slurmd dies otherwise).  They are
# only stat()ed, never opened -- but unless they are device nodes slurmd leaves
# CUDA_VISIBLE_DEVICES unset.  Links to /dev/null count as such and need no mknod.
for ((i = 0; i < GPUS; i++)); do ln -sfn /dev/null "$RUN/nvidia$i"; done

# How a job's processes are found to kill them.  Of the two without cgroups, pgid
# also kills background children that outlive the batch script or ignore SIGTERM;
# linuxproc (children by parent id) loses both.  setsid() escapes either.
PROC="ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherParams=OverMemoryKill"
rm -f /etc/slurm/cgroup.conf
if [ "${SLURM_CGROUP:-0}" = 1 ]; then
    PROC="ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup"
    cat >/etc/slurm/cgroup.conf <<EOF
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
ConstrainCores=no
ConstrainRAMSpace=yes
ConstrainSwapSpace=no
ConstrainDevices=no
EOF
fi
ACCT="AccountingStorageType=accounting_storage/none"
[ "$WITH_SACCT" = 1 ] && ACCT="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStorageTRES=gres/gpu"
GRESNODE=; GRESCONF=
if [ "$GPUS" -gt 0 ]; then
    GRESNODE=" Gres=gpu:$GPUS"
    if [ "$GPUS" = 1 ]; then F="$RUN/nvidia0"; else F="$RUN/nvidia[0-$((GPUS - 1))]"; fi
    GRESCONF="NodeName=$HOST Name=gpu File=$F"
fi

cat >/etc/slurm/slurm.conf <<EOF
# written by start_slurm.sh -- one node, for tests only
ClusterName=ci
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=slurm
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
MpiDefault=none
$PROC
# jobacct_gather/linux polls /proc, which lets us kill jobs over their memory
# (OverMemoryKill above) without cgroups
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
# schedule CPUs, memory and GPUs as consumables, so that 2 jobs share the node
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
GresTypes=gpu
# start, finish and kill things fast: this is a test rig.  With the defaults a
# job waits ~3 s and each round of an array too; like this it is ~1 s.
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
KillWait=2
CompleteWait=0
InactiveLimit=0
Waittime=0
ReturnToService=2
# how long a finished job stays visible in squeue / scontrol
MinJobAge=$MINAGE
MaxArraySize=1001
# completed jobs, one line each, with exit codes; read it or use "sacct -c"
JobCompType=jobcomp/filetxt
JobCompLoc=$STATE/jobcomp.txt
$ACCT
StateSaveLocation=$STATE/ctld
SlurmdSpoolDir=$STATE/slurmd
SlurmctldPidFile=$RUN/slurmctld.pid
SlurmdPidFile=$RUN/slurmd.pid
SlurmctldLogFile=$LOG/slurmctld.log
SlurmdLogFile=$LOG/slurmd.log
SlurmctldDebug=info
SlurmdDebug=info
SlurmdParameters=config_overrides
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=$CPUS RealMemory=$MEM$GRESNODE State=UNKNOWN
PartitionName=main Nodes=$HOST Default=YES MaxTime=INFINITE DefaultTime=60 State=UP OverSubscribe=NO
PartitionName=other Nodes=$HOST MaxTime=5 State=UP
EOF
echo "$GRESCONF" >/etc/slurm/gres.conf
touch "$STATE/jobcomp.txt"; chown slurm: "$STATE/jobcomp.txt"

# -------------------------------------------------------------------- 4. munge
if [ ! -s /etc/munge/munge.key ]; then
    dd if=/dev/urandom of=/etc/munge/munge.key bs=1 count=1024 status=none
fi
chown munge: /etc/munge/munge.key; chmod 400 /etc/munge/munge.key
if ! munge -n 2>/dev/null | unmunge >/dev/null 2>&1; then
    # as user munge: munged insists on owning its socket, log and key directories.
    # runuser, not su: no password database, no login shell needed (nologin user).
    runuser -u munge -- /usr/sbin/munged
    for i in $(seq 100); do munge -n 2>/dev/null | unmunge >/dev/null 2>&1 && break; sleep 0.1; done
    cp /run/munge/munged.pid "$RUN/munged.pid"      # ours: stop_slurm.sh may stop it
fi
munge -n | unmunge >/dev/null     # fail here and now if it does not work

# ------------------------------------------------------- 5. accounting (optional)
if [ "$WITH_SACCT" = 1 ]; then
    install -d -m 755 -o mysql -g mysql /run/mysqld
    if ! mysqladmin ping >/dev/null 2>&1; then
        [ -d /var/lib/mysql/mysql ] || mariadb-install-db --user=mysql >/dev/null
        setsid /usr/sbin/mariadbd --user=mysql --bind-address=127.0.0.1 \
            --pid-file=/run/mysqld/mysqld.pid </dev/null >"$LOG/mariadb.log" 2>&1 &
        for i in $(seq 300); do mysqladmin ping >/dev/null 2>&1 && break; sleep 0.1; done
        cp /run/mysqld/mysqld.pid "$RUN/mariadbd.pid"
    fi
    mysql -e "CREATE DATABASE IF NOT EXISTS slurm_acct_db;
              CREATE USER IF NOT EXISTS slurm@localhost IDENTIFIED BY 'slurm';
              GRANT ALL ON slurm_acct_db.* TO slurm@localhost;"
    cat >/etc/slurm/slurmdbd.conf <<EOF
AuthType=auth/munge
DbdHost=localhost
SlurmUser=slurm
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
LogFile=$LOG/slurmdbd.log
PidFile=$RUN/slurmdbd.pid
EOF
    chown slurm: /etc/slurm/slurmdbd.conf; chmod 600 /etc/slurm/slurmdbd.conf  # slurmdbd insists
    alive "$RUN/slurmdbd.pid" slurmdbd || /usr/sbin/slurmdbd
    for i in $(seq 300); do sacctmgr -n show cluster >/dev/null 2>&1 && break; sleep 0.1; done
    sacctmgr -n show cluster ci | grep -q ci || sacctmgr -i add cluster ci >/dev/null
fi

# ---------------------------------------------------------- 6. slurmctld, slurmd
# Both fork into the background by themselves and write their pid files.
# slurmctld drops to SlurmUser; slurmd stays root so that it can become the user.
alive "$RUN/slurmctld.pid" slurmctld || /usr/sbin/slurmctld
for i in $(seq 200); do scontrol ping 2>/dev/null | grep -q 'is UP' && break; sleep 0.1; done
# "sacct -c" opens this for writing, as whoever calls it; slurmctld sets it back
# to 644 each time it starts
chmod 666 "$STATE/jobcomp.txt"
alive "$RUN/slurmd.pid" slurmd || env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C /usr/sbin/slurmd -N "$HOST"

# ------------------------------------------------------------------- 7. ready?
state() { sinfo -h -N -n "$HOST" -p main -o %T 2>/dev/null; }
for i in $(seq 300); do
    case "$(state)" in idle|mixed|allocated) break ;; down*|drain*)
        # a node left "down" by an unclean stop: take it back
        scontrol update nodename="$HOST" state=resume 2>/dev/null || true ;;
    esac
    sleep 0.1
done
case "$(state)" in idle|mixed|allocated) ;; *)
    echo "node is '$(state)'" >&2; tail -20 "$LOG"/*.log >&2; exit 1 ;;
esac
T2=$(now)
# the only proof that counts: a job goes all the way through
# (polled: "sbatch --wait" itself looks only after 2 s, then every 10 s)
j=$(cd /tmp && sbatch --parsable -o /dev/null --wrap true)
for i in $(seq 600); do
    st=$(squeue -h -j "$j" -t all -o %T); [ "$st" = COMPLETED ] && break; sleep 0.1
done
[ "$st" = COMPLETED ] || { echo "first job: $st" >&2; exit 1; }
echo "start: $(since "$T1") s (of which first job: $(since "$T2") s)"
echo READY
