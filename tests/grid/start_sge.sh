#!/bin/bash
# start_sge.sh -- bring up a one-host Son of Grid Engine cluster on this very
# machine, from nothing, without systemd.  Idempotent; must run as root.
#
#   SGE_SLOTS   job slots                (default 2)
#   SGE_GPUS    pretend GPUs (a counter) (default 2)
#   SGE_RAM     what ram_free hands out  (default: 90% of the real memory)
#   GRID_USER   ordinary account to make (default gridci)
#
# Prints timings and, at the very end, READY.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "run me as root" >&2; exit 1; }
[ -s /var/run/gridengine/qmaster.pid ] || ! pgrep -x 'sge_(qmaster|execd)' >/dev/null ||
    { echo "this host has a Grid Engine of its own, which is left alone" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
GRID_USER=${GRID_USER:-gridci}
SHORT=$(hostname)
getent hosts "$SHORT" >/dev/null || echo "127.0.0.1 $SHORT" >>/etc/hosts
# Grid Engine's name for this host is the canonical one the resolver gives: the
# first name on its line of /etc/hosts, e.g. the one with the domain
HOST=$(getent hosts "$SHORT" | awk '{print $2; exit}')
SLOTS=${SGE_SLOTS:-2}
GPUS=${SGE_GPUS:-2}
RAM=${SGE_RAM:-$(awk '/MemTotal/ {printf "%dM", $2/1024*0.9}' /proc/meminfo)}
export SGE_ROOT=/var/lib/gridengine SGE_CELL=default
COMMON=$SGE_ROOT/$SGE_CELL/common
SPOOL=/var/spool/gridengine
RUN=/var/run/gridengine
# where the daemons leave their process ids for stop_sge.sh.  (The master reads
# SGE_QMASTER_PIDFILE; Debian's init script sets SGE_MASTER_PIDFILE, in vain.)
QMASTER_PID=$RUN/qmaster.pid EXECD_PID=$RUN/execd.pid
# a clean environment for the daemons: execd hands its own on to the jobs, and a
# test of "-V"/"-v" would pass for the wrong reason
clean() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=/ \
          SGE_ROOT=$SGE_ROOT SGE_CELL=$SGE_CELL \
          SGE_QMASTER_PIDFILE=$QMASTER_PID SGE_EXECD_PIDFILE=$EXECD_PID "$@"; }
export SGE_SINGLE_LINE=1         # qconf -s... must not fold long lines: we edit them
now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN{printf "%.1f", b-a}'; }
# $1 = pid file, $2 = program; the name is compared, as a stale file's id may be reused
alive() { [ -s "$1" ] && [ "$(cat "/proc/$(cat "$1")/comm" 2>/dev/null)" = "$2" ]; }
# Until root is made a manager only sgeadmin may configure.  runuser -u works
# although that account's shell is /bin/false; `su - sgeadmin` does not.
admin() { runuser -u sgeadmin -- "$@"; }

# ---------------------------------------------------------------- 1. packages
T0=$(now)
MISSING=
for p in gridengine-master gridengine-exec gridengine-client; do
    dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null | grep -qx installed || MISSING="$MISSING $p"
done
if [ -n "$MISSING" ]; then
    # Answer the package's questions beforehand ("shared/..." templates: the
    # owner named in the first column only has to be one of the packages).
    debconf-set-selections <<EOF
gridengine-common shared/gridengineconfig boolean true
gridengine-common shared/gridenginecell string $SGE_CELL
gridengine-client shared/gridenginemaster string $HOST
EOF
    # Nothing may be started by the packages: act_qmaster/host names come first.
    POLICY=/usr/sbin/policy-rc.d; MADE=
    if [ ! -e $POLICY ]; then printf '#!/bin/sh\nexit 101\n' >$POLICY; chmod 755 $POLICY; MADE=1; fi
    apt-get update -qq
    # gridengine-common needs a mailx, that needs an MTA; name the small "dma",
    # or exim4 is pulled in (installed, configured, and started where allowed).
    MTA=; dpkg-query -W -f '${db:Status-Status}' exim4-daemon-light 2>/dev/null | grep -qx installed || MTA=dma
    # shellcheck disable=SC2086  # a list of words
    apt-get install -y -qq --no-install-recommends $MTA $MISSING >/tmp/ci-sge-apt.log 2>&1 ||
        { tail -30 /tmp/ci-sge-apt.log >&2; [ -z "$MADE" ] || rm -f $POLICY; exit 1; }
    [ -z "$MADE" ] || rm -f $POLICY
fi
echo "install: $(since "$T0") s"
id -u "$GRID_USER" >/dev/null 2>&1 || useradd -m -s /bin/bash "$GRID_USER"

# ---------------------------------------------------- 2. names and directories
T1=$(now)
install -d -m 755 -o sgeadmin -g sgeadmin $RUN $SPOOL/qmaster $SPOOL/qmaster/job_scripts $SPOOL/spooldb $SPOOL/execd
echo "$HOST" >$COMMON/act_qmaster
# SGE compares the name a client gives with the reverse look-up of its address.
# Where the host name is on a 127.* line that reverse look-up says "localhost";
# this file declares them all the same machine (first name = the official one).
echo "$HOST $([ "$SHORT" = "$HOST" ] || echo "$SHORT") localhost" >$COMMON/host_aliases
chown sgeadmin: $COMMON/act_qmaster $COMMON/host_aliases
# The package's postinst makes the database; make it anew if it was thrown away
# (PURGE=1 stop_sge.sh), which is how to get back to an empty cluster.
[ -e $SPOOL/spooldb/sge ] ||
    admin /usr/share/gridengine/scripts/init_cluster $SGE_ROOT $SGE_CELL $SPOOL/spooldb sgeadmin >/dev/null

# ----------------------------------------------------------- 3. the master
# Forks into the background; runs as sgeadmin after the start.  A huge open-file
# limit (some containers: 2^30) makes the daemons spin closing descriptors.
ulimit -n 4096 2>/dev/null || true
if ! alive $QMASTER_PID sge_qmaster; then
    rm -f $QMASTER_PID
    clean sge_qmaster
fi
# (a master that is up but will not have us makes qconf hang: hence timeout)
for _ in $(seq 100); do admin timeout 5 qconf -sh >/dev/null 2>&1 && break; [ $SECONDS -gt 120 ] && break; sleep 0.1; done
admin timeout 5 qconf -sh >/dev/null || { tail -20 $SPOOL/qmaster/messages /tmp/sge_messages 2>/dev/null >&2; exit 1; }

# ------------------------------------------------------------ 4. configuration
# qconf reports each change on stderr and may exit 0 for a refused one: keep it all
QLOG=/tmp/ci-sge-qconf.log; : >$QLOG; exec 3>&2 2>>$QLOG
# shellcheck disable=SC2154  # rc is
trap 'rc=$?; exec 2>&3; [ $rc = 0 ] || cat $QLOG >&2' EXIT
W=$(mktemp -d); chmod 755 "$W"
qconf -sm 2>/dev/null | grep -qx root || admin qconf -am root >/dev/null
qconf -ss 2>/dev/null | grep -qx "$HOST" || qconf -as "$HOST" >/dev/null   # submit host
qconf -sh | grep -qx "$HOST" || qconf -ah "$HOST" >/dev/null               # admin host

# global configuration: Debian's min_uid/min_gid 1000 keeps root from submitting;
# flush the accounting file at once or qacct lags by up to 15 s.
qconf -sconf global | sed -E \
    -e 's/^min_uid .*/min_uid 0/' -e 's/^min_gid .*/min_gid 0/' \
    -e 's/^load_report_time .*/load_report_time 00:00:02/' \
    -e 's/^reporting_params .*/reporting_params accounting=true reporting=false flush_time=00:00:01 accounting_flush_time=00:00:00 joblog=false sharelog=00:00:00/' \
    -e 's/^administrator_mail .*/administrator_mail none/' \
    -e 's/^execd_params .*/execd_params INHERIT_ENV=false/' \
    >"$W/global"
qconf -Mconf "$W/global" >/dev/null

# scheduler: every second and right after each submission / end of a job; no
# pretend load for freshly started jobs (keeps the second slot usable)
qconf -ssconf | sed -E \
    -e 's/^schedule_interval .*/schedule_interval 0:0:1/' \
    -e 's/^flush_submit_sec .*/flush_submit_sec 1/' -e 's/^flush_finish_sec .*/flush_finish_sec 1/' \
    -e 's/^job_load_adjustments .*/job_load_adjustments NONE/' \
    -e 's/^schedd_job_info .*/schedd_job_info true/' >"$W/sched"
qconf -Msconf "$W/sched" >/dev/null

# complexes: gpu and ram_free as consumables, as many sites have them
qconf -sc >"$W/complex"
sed -i -e '/^gpu /d' -e '/^ram_free /d' "$W/complex"
cat >>"$W/complex" <<EOF
gpu      gpu      INT    <= YES YES 0 0
ram_free ram_free MEMORY <= YES YES 0 0
EOF
qconf -Mc "$W/complex" >/dev/null

# the execution host and what it has to give
cat >"$W/exec" <<EOF
hostname $HOST
load_scaling NONE
complex_values slots=$SLOTS,gpu=$GPUS,ram_free=$RAM
user_lists NONE
xuser_lists NONE
projects NONE
xprojects NONE
usage_scaling NONE
report_variables NONE
EOF
if qconf -sel 2>/dev/null | grep -qx "$HOST"; then qconf -Me "$W/exec" >/dev/null; else qconf -Ae "$W/exec" >/dev/null; fi

# host group @allhosts
printf 'group_name @allhosts\nhostlist %s\n' "$HOST" >"$W/hg"
if qconf -shgrpl 2>/dev/null | grep -qx @allhosts; then qconf -Mhgrp "$W/hg" >/dev/null; else qconf -Ahgrp "$W/hg" >/dev/null; fi

# parallel environment smp: n slots on one host
cat >"$W/pe" <<EOF
pe_name smp
slots 999
user_lists NONE
xuser_lists NONE
start_proc_args NONE
stop_proc_args NONE
allocation_rule \$pe_slots
control_slaves FALSE
job_is_first_task TRUE
urgency_slots min
accounting_summary FALSE
qsort_args NONE
EOF
if qconf -spl 2>/dev/null | grep -qx smp; then qconf -Mp "$W/pe" >/dev/null; else qconf -Ap "$W/pe" >/dev/null; fi

# queues all.q and gpu.q.  load_thresholds NONE: the default np_load_avg=1.75
# closes the queue on a busy 2-core CI machine.  shell: the template's /bin/csh
# is what runs any job submitted without -S.
for q in all.q gpu.q; do
cat >"$W/q" <<EOF
qname $q
hostlist @allhosts
seq_no 0
load_thresholds NONE
suspend_thresholds NONE
nsuspend 1
suspend_interval 00:05:00
priority 0
min_cpu_interval 00:05:00
processors UNDEFINED
qtype BATCH INTERACTIVE
ckpt_list NONE
pe_list smp
rerun FALSE
slots $SLOTS
tmpdir /tmp
shell /bin/bash
prolog NONE
epilog NONE
shell_start_mode posix_compliant
starter_method NONE
suspend_method NONE
resume_method NONE
terminate_method NONE
notify 00:00:02
owner_list NONE
user_lists NONE
xuser_lists NONE
subordinate_list NONE
complex_values NONE
projects NONE
xprojects NONE
calendar NONE
initial_state default
s_rt INFINITY
h_rt INFINITY
s_cpu INFINITY
h_cpu INFINITY
s_fsize INFINITY
h_fsize INFINITY
s_data INFINITY
h_data INFINITY
s_stack INFINITY
h_stack INFINITY
s_core INFINITY
h_core INFINITY
s_rss INFINITY
h_rss INFINITY
s_vmem INFINITY
h_vmem INFINITY
EOF
if qconf -sql 2>/dev/null | grep -qx "$q"; then qconf -Mq "$W/q" >/dev/null; else qconf -Aq "$W/q" >/dev/null; fi
done

rm -rf "$W"; exec 2>&3; trap - EXIT
# refused silently in part?  check the settings that matter
if ! { [ "$(qconf -sconf global | awk '$1=="min_uid"{print $2}')" = 0 ] && qconf -sc | grep -q '^gpu ' &&
    qconf -sq all.q >/dev/null && qconf -sq gpu.q >/dev/null; }; then cat $QLOG >&2; exit 1; fi

# ------------------------------------------------------------- 5. the exec host
if ! alive $EXECD_PID sge_execd; then
    rm -f $EXECD_PID
    clean sge_execd
fi
# a queue is usable when its state column (6th) is empty; "au" = execd not heard
for _ in $(seq 600); do
    timeout 5 qstat -f -q all.q 2>/dev/null | awk -v q="all.q@" 'index($1,q)==1 {ok=(NF==5)} END{exit !ok}' && break
    sleep 0.1
done
qmod -c '*' >/dev/null 2>&1 || true        # clear error states of a former life
# ------------------------------------------------------------------- 6. ready?
T2=$(now)
(cd /tmp && timeout 60 qsub -sync y -b y -shell n -o /dev/null -j y /bin/true >/dev/null)
echo "start: $(since "$T1") s (of which first job: $(since "$T2") s)"
echo READY
