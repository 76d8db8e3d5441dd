#!/bin/bash
# stop_sge.sh -- stop what start_sge.sh started, and nothing else: by process id
# from our own pid files, after checking that the process is the right program.
#   PURGE=1   also throw the cluster's database, spool and accounting away
set -uo pipefail
[ "$(id -u)" = 0 ] || { echo "run me as root" >&2; exit 1; }
export SGE_ROOT=/var/lib/gridengine SGE_CELL=default
RUN=/var/run/gridengine SPOOL=/var/spool/gridengine
stop() {  # $1 pid file, $2 program name as in /proc/PID/comm
    local pid
    pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] || return 0
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ] || { rm -f "$1"; return 0; }
    kill "$pid"
    for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill -0 "$pid" 2>/dev/null && kill -9 "$pid"
    rm -f "$1"; echo "stopped $2 ($pid)"
}
# running jobs first, or their sge_shepherd processes outlive the daemons
if timeout 10 qstat -u '*' >/dev/null 2>&1; then
    timeout 10 qdel -u '*' >/dev/null 2>&1
    for _ in $(seq 100); do [ -z "$(timeout 10 qstat -u '*' 2>/dev/null)" ] && break; sleep 0.1; done
fi
stop $RUN/execd.pid sge_execd
stop $RUN/qmaster.pid sge_qmaster
if [ "${PURGE:-0}" = 1 ]; then
    rm -rf $SPOOL/spooldb $SPOOL/qmaster $SPOOL/execd $SGE_ROOT/$SGE_CELL/common/accounting
fi
exit 0
