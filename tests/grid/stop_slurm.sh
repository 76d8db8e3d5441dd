#!/bin/bash
# stop_slurm.sh -- stop what start_slurm.sh started, and nothing else: by process
# id from our own pid files, after checking that the process is the right program.
#   PURGE=1   also forget all jobs and logs (next start: job ids from 1 again)
set -uo pipefail
[ "$(id -u)" = 0 ] || { echo "run me as root" >&2; exit 1; }
RUN=/run/ci-slurm STATE=/var/lib/ci-slurm LOG=/var/log/ci-slurm
stop() {  # $1 pid file, $2 program name as in /proc/PID/comm
    local pid
    pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] || return 0
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ] || { rm -f "$1"; return 0; }
    kill "$pid"
    for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill -0 "$pid" 2>/dev/null && kill -9 "$pid"
    rm -f "$1"; echo "stopped $2 ($pid)"
}
# running jobs first, or their slurmstepd processes outlive the daemons
if timeout 5 scontrol ping 2>/dev/null | grep -q 'is UP'; then
    for j in $(squeue -h -o %A | sort -u); do scancel -f "$j" 2>/dev/null; done
    for _ in $(seq 100); do [ -z "$(squeue -h 2>/dev/null)" ] && break; sleep 0.1; done
fi
stop $RUN/slurmd.pid slurmd
stop $RUN/slurmctld.pid slurmctld
stop $RUN/slurmdbd.pid slurmdbd
stop $RUN/mariadbd.pid mariadbd      # these two only if start_slurm.sh started them
stop $RUN/munged.pid munged
[ "${PURGE:-0}" = 1 ] && rm -rf $STATE $RUN $LOG
exit 0
